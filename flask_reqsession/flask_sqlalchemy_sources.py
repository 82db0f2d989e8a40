"""Flask-SQLAlchemy and Flask-SQLAlchemy-Lite, recognised without being imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_reqsession.adoption import AdoptedGetter, Applies, Current, S, in_front_of
from flask_reqsession.doors import Door, E, ScopedDoor, event_target_of


def is_flask_sqlalchemy(given: object) -> bool:
    """Whether ``given`` is the extension; somebody must have imported its module then."""
    return _is_extension(given, "flask_sqlalchemy")


def is_flask_sqlalchemy_lite(given: object) -> bool:
    """Whether ``given`` is the extension; somebody must have imported its module then."""
    return _is_extension(given, "flask_sqlalchemy_lite")


def _is_extension(given: object, module: str) -> bool:
    imported = sys.modules.get(module)
    return imported is not None and isinstance(given, imported.SQLAlchemy)


class FlaskSQLAlchemy(Protocol):
    """What is used of ``flask_sqlalchemy.SQLAlchemy``."""

    session: scoped_session[Session]

    @property
    def engines(self) -> Mapping[str | None, Engine]:
        """The engines of the current app; the default one has the key None."""
        ...


class FlaskSQLAlchemyDoor(ScopedDoor[Session, Engine]):
    """``db.session`` of Flask-SQLAlchemy; its sessions choose their engines by the models."""

    needs_app = True

    def __init__(self, db: FlaskSQLAlchemy) -> None:
        super().__init__(db.session)
        self._db = db

    def engines(self) -> tuple[Engine, ...]:
        """Return the engines of the current app; none outside an app or before ``db.init_app``."""
        try:
            return _default_first(self._db.engines, None)
        except RuntimeError:
            return ()


class LiteDoor(Door[S, E]):
    """One colour of Flask-SQLAlchemy-Lite: ``prefix`` is empty or ``async_``."""

    needs_app = True

    def __init__(self, db: object, prefix: str = "") -> None:
        self.open: Callable[[], S] = self._open
        self._db = db
        self._factory_name = f"{prefix}sessionmaker"
        self._engines_name = f"{prefix}engines"
        self._getter_name = f"get_{prefix}session"

    @property
    def event_target(self) -> sessionmaker[Session] | None:
        """The factory of the current app, or what its inner sessions are made with."""
        return event_target_of(getattr(self._db, self._factory_name))

    def engines(self) -> tuple[E, ...]:
        """Return the engines of the current app; none outside an app or before ``db.init_app``."""
        try:
            return _default_first(getattr(self._db, self._engines_name), "default")
        except RuntimeError:
            return ()

    def adopt(self, current: Current[S], applies: Applies | None = None) -> None:
        """Put a getter in front of ``db.get_session``, which ``db.session`` calls as well."""
        own: Any = getattr(self._db, self._getter_name)
        getter: AdoptedGetter[S] = in_front_of(own)
        setattr(self._db, self._getter_name, getter)
        getter.claims.add(current, applies)

    def _open(self) -> S:
        session: S = getattr(self._db, self._factory_name)()
        return session


def _default_first(engines: Mapping[Any, E], default: object) -> tuple[E, ...]:
    names = sorted(engines, key=lambda name: name != default)
    return tuple(engines[name] for name in names)
