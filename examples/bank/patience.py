"""How often an order is tried again when another one was faster."""

from __future__ import annotations

from blinker import Namespace
from flask import current_app

from flask_reqsession import Retry

order_retrying = Namespace().signal("order-retrying")
"""Sent before each further attempt, with ``attempt`` and ``error``; nothing is locked then."""


def _announce(attempt: int, error: BaseException) -> None:
    current_app.logger.info("attempt %d failed (%s), trying again", attempt, type(error).__name__)
    order_retrying.send(attempt=attempt, error=error)


PATIENT = Retry(attempts=6, initial=0.02, before_retry=_announce)
"""For whatever reads and then writes, and is not a part of something larger.

SQLite has one writer at a time: who has read, and now wants to write while another does, is not
kept waiting but has to begin again. On a server it is the version of an account that tells.
"""
