"""The options of reattachment, checked where they are written."""

from __future__ import annotations

from typing import Any

import pytest

from flask_reqsession import ConfigurationError, RequestScopedSessionManager
from flask_reqsession.reattachment import ReattachOptions, reattach_options


@pytest.mark.rule("R1")
@pytest.mark.parametrize(
    "wrong",
    [{"refresh": 1}, {"missing": 404}, {"conflict": "merge"}, {"foreign": "none"}, {"mising": "x"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_option_is_refused_at_decoration(wrong: dict[str, Any]) -> None:
    """By either form of the decorator, and by the manager's method at the call."""
    manager = RequestScopedSessionManager("sqlite://")
    name = next(iter(wrong))

    with pytest.raises(ConfigurationError, match=name):
        manager.reattach_args(**wrong)
    with pytest.raises(ConfigurationError, match=name):
        manager.reattach_args("user", **wrong)
    with manager.unit_of_work(), pytest.raises(ConfigurationError, match=name):
        manager.ensure_session_attachment(object(), **wrong)


@pytest.mark.rule("R1")
def test_options_add_up() -> None:
    """Those that are not given have their defaults."""
    assert reattach_options() == ReattachOptions()
    assert reattach_options(foreign="raise") == ReattachOptions(foreign="raise")
