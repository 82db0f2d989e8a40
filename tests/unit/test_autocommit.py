"""What SQLAlchemy keeps of ``create_engine(isolation_level=...)``."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine

from flask_reqsession.autocommit import connects_in_autocommit


@pytest.mark.rule("D5")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"isolation_level": "SERIALIZABLE"}, False),
        ({"isolation_level": "AUTOCOMMIT"}, True),
        ({"isolation_level": "autocommit"}, True),
    ],
)
def test_an_engine_that_connects_in_autocommit_is_known(options: Any, expected: bool) -> None:
    """It is read from a private attribute: this fails where SQLAlchemy has given that up."""
    engine = create_engine("sqlite://", **options)
    assert connects_in_autocommit(engine) is expected
    engine.dispose()
