"""Which arguments of a decorated function are reattached, and where a call has them."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.reattachment.attaching import Surroundings, attach_all
from flask_reqsession.reattachment.choices import DEFAULTS
from flask_reqsession.reattachment.containers import PLAIN, not_attached
from flask_reqsession.reattachment.plainly import attach_plainly

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from sqlalchemy.orm import Session

    from flask_reqsession.reattachment.choices import ReattachOptions
    from flask_reqsession.reattachment.memory import Memory
    from flask_reqsession.reattachment.recalling import Recall

Slot: TypeAlias = tuple[int, str, object]
"""Where a call may have an argument: index, keyword, and the value if it has neither.

The index of what is passed by keyword only is one that no call reaches; the "keyword" of what is
passed by position only ends in a slash or starts with a star, which no keyword does.
"""

_NO_INDEX = sys.maxsize


class ArgumentPlan:
    """The arguments of one function that are reattached, found out once, at its decoration.

    ``function`` is what messages call it. ``names`` are the parameters to look at, every one if
    there is none; ``*args`` and ``**kwargs`` are named without the stars, and everything in them
    counts. An unknown name raises ``TypeError``. Any number of threads may use one plan.

    >>> from inspect import signature
    >>> def pay(user, amount): ...
    >>> ArgumentPlan("pay", signature(pay), ["usr"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: pay() has no parameter 'usr' to reattach. Its parameters are: user, amount. ...
    """

    __slots__ = (
        "_defaults",
        "_extra",
        "_function",
        "_keywords",
        "_options",
        "_rest",
        "_rest_name",
        "_slots",
        "_unsure",
    )

    def __init__(
        self,
        function: str,
        signature: inspect.Signature,
        names: Collection[str] = (),
        options: ReattachOptions = DEFAULTS,
    ) -> None:
        """Work out the slots of the watched parameters."""
        parameters = signature.parameters
        for name in names:
            if name not in parameters:
                raise TypeError(_unknown(function, name, list(parameters)))
        self._function = function
        self._options = options
        self._slots: tuple[Slot, ...] = ()
        self._rest = _NO_INDEX
        self._rest_name = ""
        self._extra = False
        self._keywords = {p.name for p in parameters.values() if p.kind in _BY_KEYWORD}
        self._defaults = tuple(p.default for p in parameters.values())
        # The defaults that models may be in, if a call leaves them out.
        self._unsure: tuple[object, ...] = tuple(
            each
            for each in self._defaults
            if each is not inspect.Parameter.empty and type(each) not in PLAIN
        )
        for index, parameter in enumerate(parameters.values()):
            if not names or parameter.name in names:
                self._watch(index, parameter)

    def are_attached(
        self, session: Session, memory: Memory, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> bool:
        """Tell whether a call has everything in its session, so that nothing is to be reattached.

        With or without the injected session among the arguments. False also if only :meth:`apply`
        can tell.
        """
        # The usual call, so it is written out. All that is passed is looked at, whichever arguments
        # are watched and wherever they are: the others only cost another look if they are loose.
        key = session.hash_key
        if self._options.refresh or key in memory.deleted.sessions:
            return False
        values: Iterable[object] = args
        if kwargs or self._unsure:
            values = (*args, *kwargs.values(), *self._unsure)
        others: list[object] = []
        for value in values:
            kind = type(value)
            if kind in PLAIN:
                continue
            if hasattr(kind, "__mapper__"):
                try:
                    if instance_state(value).session_id != key:
                        return False
                except AttributeError:  # made by __new__ alone
                    return False
            else:
                others.append(value)
        return not others or not_attached(others, key, doubtful=False) == []

    def apply(  # noqa: PLR0913 - a call, and what it is made with
        self,
        session: Session,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        *,
        memory: Memory | None = None,
        reattached: Callable[[object], None] | None = None,
        recall: Recall | None = None,
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Reattach the arguments of one call, and return what to call the function with.

        ``args`` and ``kwargs`` are what the undecorated function would get, ``self`` included. They
        are never changed, and are returned themselves if no argument is replaced. ``memory``,
        ``reattached`` and what is raised are as in :func:`attach`; a refused call has touched
        nothing, whichever argument it was. ``recall`` remembers the arguments for further attempts.
        """
        key, count = session.hash_key, len(args)
        doubtful = memory is None or key in memory.deleted.sessions
        slots: Sequence[Slot] = self._slots
        if count > self._rest or (self._extra and kwargs):
            slots = self._all_slots(count, kwargs)
        loose: list[object] = []
        others: list[object] = []
        for index, keyword, default in slots:
            value = args[index] if index < count else kwargs.get(keyword, default)
            kind = type(value)
            if kind in PLAIN:
                continue
            if hasattr(kind, "__mapper__"):
                try:
                    state = instance_state(value)
                except AttributeError:  # made by __new__ alone
                    others.append(value)
                    continue
                if state.session_id != key or (doubtful and state.was_deleted):
                    loose.append(value)
            else:
                others.append(value)
        inner = not_attached(others, key, doubtful=doubtful) if others else ()
        if inner is not None and not self._options.refresh:
            loose += inner
            if not loose or attach_plainly(session, loose, memory, reattached, recall):
                return args, kwargs
        call = Surroundings(memory, self._options, reattached, recall)
        return self._decided(session, args, kwargs, slots, call)

    def _decided(
        self,
        session: Session,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        slots: Sequence[Slot],
        call: Surroundings,
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Go the long way, and decide about each instance."""
        count = len(args)
        values = [
            args[index] if index < count else kwargs.get(keyword, default)
            for index, keyword, default in slots
        ]
        places = [(self._function, keyword) for _, keyword, _ in slots]
        passed = attach_all(session, [*zip(values, places, strict=True)], call)
        replaced = [
            (slot, new)
            for slot, old, new in zip(slots, values, passed, strict=True)
            if new is not old
        ]
        return self._rebuilt(args, kwargs, replaced) if replaced else (args, kwargs)

    def _rebuilt(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        replaced: list[tuple[Slot, object]],
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        positional, named = list(args), dict(kwargs)
        for (index, keyword, _), value in replaced:
            if index < len(positional):
                positional[index] = value
            elif not keyword.endswith("/"):
                named[keyword] = value
            else:
                # A default can only be replaced by passing those before it, too. If one of these
                # is missing the call is wrong, and the function says so.
                before = self._defaults[len(positional) : index]
                if not any(default is inspect.Parameter.empty for default in before):
                    positional += [*before, value]
        return tuple(positional), named

    def _watch(self, index: int, parameter: inspect.Parameter) -> None:
        name, default = parameter.name, parameter.default
        match parameter.kind:
            case inspect.Parameter.VAR_POSITIONAL:
                self._rest, self._rest_name = index, f"*{name}"
            case inspect.Parameter.VAR_KEYWORD:
                self._extra = True
            case inspect.Parameter.KEYWORD_ONLY:
                self._slots += ((_NO_INDEX, name, default),)
            case inspect.Parameter.POSITIONAL_ONLY:
                self._slots += ((index, f"{name}/", default),)
            case _:
                self._slots += ((index, name, default),)

    def _all_slots(self, count: int, kwargs: dict[str, object]) -> list[Slot]:
        """Return the slots of this call, those of ``*args`` and ``**kwargs`` included."""
        slots = list(self._slots)
        slots += [(index, self._rest_name, None) for index in range(self._rest, count)]
        if self._extra:
            slots += [(_NO_INDEX, name, None) for name in kwargs if name not in self._keywords]
        return slots


_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _unknown(function: str, name: str, parameters: list[str]) -> str:
    known = ", ".join(parameters) or "none"
    return (
        f"{function}() has no parameter {name!r} to reattach. Its parameters are: {known}. "
        "Name some of these in reattach_args(), or none to have every argument reattached."
    )
