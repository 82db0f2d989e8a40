"""Attach model instances to a session: no copies, nothing lost, and SQL only if asked for.

The parts, in the order in which a call passes through them:

- ``choices``: what the user may choose;
- ``arguments``: which arguments of a decorated function are looked at, worked out once;
- ``attaching``: one call, from the instances found to the values passed;
- ``plainly``: the usual case, in which there is nothing to decide;
- ``containers``: what contains the instances, and is rebuilt around what replaces them;
- ``plan``: the decisions of one whole call, all made before the first is carried out;
- ``standing``: what one instance is to the session, and the step that follows from it;
- ``graph`` and ``changes``: what an instance has in memory, and what was changed there;
- ``merging``: the changes of an instance compared with what the session has;
- ``moving``: children that only collections lead to, given to different parents on both sides;
- ``refreshing`` and ``renewing``: rows that are read again, and what they mean;
- ``decisions``: what was decided; ``carrying``, ``copies`` and ``writing``: how it is done;
- ``recalling``: what the instances were before the first attempt of a call;
- ``refusals``: what is said when a step is refused;
- ``memory`` and ``deletions``: what outlives a call, such as the rows that a running transaction
  deleted.

Sessions are SQLAlchemy's synchronous ones; of an ``AsyncSession``, pass the ``sync_session``.
"""

from __future__ import annotations

from flask_reqsession.reattachment.arguments import ArgumentPlan
from flask_reqsession.reattachment.attaching import attach
from flask_reqsession.reattachment.choices import ReattachChoices, ReattachOptions, reattach_options
from flask_reqsession.reattachment.memory import Memory
from flask_reqsession.reattachment.recalling import Recall

__all__ = [
    "ArgumentPlan",
    "Memory",
    "ReattachChoices",
    "ReattachOptions",
    "Recall",
    "attach",
    "reattach_options",
]
