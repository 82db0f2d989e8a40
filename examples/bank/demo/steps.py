"""The steps of the demonstration: what Ada does, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial

from examples.bank.limits import DAILY_LIMIT
from examples.bank.tables import Customers
from examples.bank.worker import StandingOrderWorker

from .rival import Rival
from .server import Answer, Client
from .witness import Seen

RENT = 25_00
MORE_THAN_ADA_HAS = 9_000_00
MORE_THAN_A_DAY_ALLOWS = DAILY_LIMIT + 1


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what must have come of it."""

    name: str
    request: Callable[[], Answer]
    status: int
    _: KW_ONLY
    moved: int = 0
    """Cents that Ada must have sent to Grace; 0 where everything must be rolled back."""
    audited: int = 0
    """Lines that the audit trail must have gained."""
    text: str = ""
    """What the answer must contain."""

    @property
    def change(self) -> Seen:
        """Return what a second connection must find changed, and nothing else may be."""
        made = 1 if self.moved else 0
        return Seen(-self.moved, self.moved, 0, made, 2 * made, self.audited)


@dataclass(frozen=True, slots=True)
class Ada:
    """A customer with a browser, a few scripts and bad luck."""

    client: Client
    customers: Customers
    worker: StandingOrderWorker
    database_url: str

    def pay(
        self, amount: int = RENT, payee: int | None = None, path: str = "/api/transfers"
    ) -> Answer:
        """Send an order as JSON, by default to pay the rent to Grace."""
        ada, grace, _ = self.customers
        order = {"payer": ada, "payee": payee or grace, "amount": amount, "memo": "rent"}
        return self.client.post_json(path, order)

    def fill_in_form(self) -> Answer:
        """Pay the rent on the HTML page."""
        ada, grace, _ = self.customers
        return self.client.post_form("/transfers", payer=ada, payee=grace, amount="25.00")

    def pay_in_spite_of_rival(self) -> Answer:
        """Pay the rent while somebody else is in the way; tell how often that was noticed."""
        rival = Rival(self.database_url, self.customers.ada)
        with rival.in_the_way():
            answer = self.pay()
        return Answer(answer.status, f"{len(rival.conflicts)} conflict; {answer.text}")

    def order_for_later(self) -> Answer:
        """Place a standing order and wait until the worker has seen to it."""
        answer = self.pay(path="/api/standing-orders")
        self.worker.wait_until_idle()
        return answer

    def download_statement(self) -> Answer:
        """Fetch the CSV file."""
        return self.client.get(f"/accounts/{self.customers.ada}/statement.csv")


def steps_of(ada: Ada) -> list[Step]:
    """Return the steps in their order."""
    pay, frida = ada.pay, ada.customers.frida
    overdraw = partial(pay, MORE_THAN_ADA_HAS)
    return [
        Step("success, JSON", pay, 201, moved=RENT, audited=1),
        Step("success, HTML form", ada.fill_in_form, 303, moved=RENT, audited=1),
        Step("overdraft", overdraw, 409, audited=1),
        Step("frozen payee", partial(pay, payee=frida), 403, audited=1),
        Step("abort(403): daily limit", partial(pay, MORE_THAN_A_DAY_ALLOWS), 403),
        Step("overdraft, CHECK violated", partial(overdraw, path="/api/mishaps/overdraw"), 409),
        Step("crash in mid-transfer", partial(pay, path="/api/mishaps/crash"), 500),
        Step(
            "swallowed inner failure",
            partial(pay, path="/api/mishaps/swallow"),
            500,
            text="nothing was done",
        ),
        Step(
            "retry after lock conflict",
            ada.pay_in_spite_of_rival,
            201,
            moved=RENT,
            audited=1,
            text="1 conflict;",
        ),
        Step("standing order, worker", ada.order_for_later, 202, moved=RENT, audited=1),
        Step("statement, streamed CSV", ada.download_statement, 200, text="rent,-25.00,2400.00"),
    ]
