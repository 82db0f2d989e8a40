"""Sessions that read from a replica where their scope allows it (rule D7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import Engine

from flask_reqsession.sessions import RequestSession

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


PRIMARY_BIND: Final = "default"
REPLICA_BIND: Final = "replica"


class Replica:
    """The place of a replica's engine: its bind may be read after that of the primary."""

    def __init__(self) -> None:
        self.engine: Engine | None = None


class Replicas:
    """The replica of the default bind, as engines of both colours."""

    def __init__(self) -> None:
        self.sync: Replica = Replica()
        self.asynchronous: Replica = Replica()


class Reader(Protocol):
    """Tells what the running scope may do."""

    @property
    def reads_replica(self) -> bool:
        """Whether it may read from a copy of the database."""
        ...


class RoutedSession(RequestSession):
    """A session of the primary that goes to its replica while ``reader`` allows it.

    It stays one session with one identity map: only where the next transaction begins changes.
    """

    def __init__(self, *args: Any, replica: Replica, **options: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **options)
        self.reader: Reader | None = None
        self._replica = replica

    def get_bind(
        self,
        mapper: Any = None,  # noqa: ANN401 - as inherited
        *,
        bind: Engine | Connection | None = None,
        **arguments: Any,  # noqa: ANN401 - as inherited
    ) -> Engine | Connection:
        """Return the replica, or the engine that the session is bound to."""
        reader, replica = self.reader, self._replica.engine
        if bind is None and replica is not None and reader is not None and reader.reads_replica:
            return replica
        return super().get_bind(mapper, bind=bind, **arguments)
