"""A forked child that answers its parent, and then ends."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn


def in_child(function: Callable[[], object]) -> object:
    """Fork, call ``function`` in the child, and return what it returned or raise what it raised."""
    reader, writer = os.pipe()
    child = os.fork() or answer_and_exit(function, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer, error = pickle.load(pipe)  # noqa: S301 - from our own child
    os.waitpid(child, 0)
    if error:
        raise AssertionError(error)
    return answer


def answer_and_exit(function: Callable[[], object], writer: int) -> NoReturn:
    """Tell the parent what ``function`` returned; nothing of pytest runs twice."""
    signal.alarm(30)  # a child that hangs ends, and the parent finds no answer
    answer, error = None, ""
    try:
        answer = function()
    except BaseException:  # noqa: BLE001 - told to the parent
        error = traceback.format_exc()
    with os.fdopen(writer, "wb") as pipe:
        pickle.dump((answer, error), pipe)
    os._exit(0)
