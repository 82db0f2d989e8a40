"""Keep the first cause, and tell of what failed after it."""

from __future__ import annotations

from flask_reqsession.effects import Failed, Ok, Outcome


def with_note(outcome: Outcome, later: Outcome, what: str) -> Outcome:
    """Return ``outcome``, with a note where what came ``later`` failed.

    A value that was to be rolled back, an error status say, is still the answer where ROLLBACK
    fails: nothing of it was to be kept, and nothing is, on a connection that nobody gets any more.
    Ctrl-C and the like go on.
    """
    if isinstance(later, Ok):
        return outcome
    if isinstance(outcome, Ok):
        return outcome if isinstance(later.error, Exception) else later
    note(outcome, later, what)
    return outcome


def note(failed: Failed, later: Failed, what: str) -> None:
    """Note on the error of ``failed`` that ``what`` failed as well."""
    failed.error.add_note(f"{what} also failed: {type(later.error).__name__}: {later.error}")


def caused_after(failed: Failed, body: Outcome) -> Failed:
    """Keep the exception of the body at the far end of the contexts of what failed after it."""
    if isinstance(body, Failed):
        contexts = _contexts(failed.error)
        if not any(context is body.error for context in contexts) and not any(
            context is failed.error for context in _contexts(body.error)
        ):
            contexts[-1].__context__ = body.error
    return failed


def _contexts(error: BaseException) -> list[BaseException]:
    contexts = [error]
    while (context := contexts[-1].__context__) is not None:
        if any(context is known for known in contexts):
            break  # a loop, made by hand
        contexts.append(context)
    return contexts
