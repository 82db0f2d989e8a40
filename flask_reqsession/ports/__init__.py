"""Carry out effects on a session: the only place that commits, rolls back and closes.

- ``watched``: one session, and what is known of it;
- ``ending``: how its transaction ends;
- ``port``: what is done to it, written against the ``Session`` that an ``AsyncSession`` has inside;
- ``session_port`` and ``async_session_port``: where it comes from, and how it is closed.
"""

from __future__ import annotations

from flask_reqsession.ports.async_session_port import AsyncSessionPort
from flask_reqsession.ports.port import Port
from flask_reqsession.ports.session_port import SessionPort

__all__ = ["AsyncSessionPort", "Port", "SessionPort"]
