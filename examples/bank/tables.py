"""Making the tables, and filling them with something to look at."""

from __future__ import annotations

from typing import NamedTuple

from flask_reqsession import current_manager, transactional

from .accounts import open_account, set_frozen
from .models import Base


class Customers(NamedTuple):
    """The numbers of the accounts that :func:`seed` opens."""

    ada: int
    grace: int
    frida: int


def create_tables() -> None:
    """Make the tables that are missing. No scope: MariaDB commits at each of these statements."""
    Base.metadata.create_all(current_manager().databases.engine())


@transactional
def seed() -> Customers:
    """Open three accounts: Ada and Grace can pay each other, Frida's account is frozen."""
    ada = open_account("Ada Lovelace", 2_500_00)
    grace = open_account("Grace Hopper", 800_00)
    frida = open_account("Frida Kahlo", 120_00)
    set_frozen(frida.id, frozen=True)
    return Customers(ada.id, grace.id, frida.id)
