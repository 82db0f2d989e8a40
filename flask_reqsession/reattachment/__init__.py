"""Attach model instances to a session: no SQL, no copies, nothing lost.

The parts, in the order in which a call passes through them:

- ``arguments``: which arguments of a decorated function are looked at, worked out once;
- ``standing``: what one instance is to the session, and the step that follows from it;
- ``graph``: what an instance has in memory, and which of its attributes were changed;
- ``plan``: the steps of one whole call, all decided before the first is carried out;
- ``refusals``: what is said when a step is refused;
- ``memory`` and ``deletions``: what outlives a call, such as the rows that a running transaction
  deleted.

Sessions are SQLAlchemy's synchronous ones; of an ``AsyncSession``, pass the ``sync_session``.
"""

from __future__ import annotations

from flask_reqsession.reattachment.arguments import ArgumentPlan
from flask_reqsession.reattachment.memory import Memory
from flask_reqsession.reattachment.plan import attach
from flask_reqsession.reattachment.standing import Standing, Step

__all__ = ["ArgumentPlan", "Memory", "Standing", "Step", "attach"]
