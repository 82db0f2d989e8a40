"""The audit trail."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session

from .models import AuditAction, AuditRecord


@transactional
@with_request_session
def record(session: Session, action: AuditAction, detail: str) -> None:
    """Write one line; called inside a transaction, it stands or falls with that."""
    session.add(AuditRecord(action=action, detail=detail))


@with_request_session
def latest_records(session: Session, limit: int = 100) -> Sequence[AuditRecord]:
    """Return the newest lines, the newest first."""
    return session.scalars(select(AuditRecord).order_by(AuditRecord.id.desc()).limit(limit)).all()
