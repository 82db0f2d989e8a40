"""Greenlets of one thread are different owners."""

from __future__ import annotations

import contextvars
import importlib.util
import subprocess
import sys
from typing import Any

import pytest
from greenlet import greenlet
from sqlalchemy.orm import Session

from flask_reqsession import ScopeOwnershipError
from tests.integration.manager.shop import Shop, as_view, connections_held
from tests.integration.manager.threads import assert_refused, main_greenlet


def switch(other: greenlet) -> Any:
    """Let ``other`` run. A call, since coverage loses the thread until the next one returns."""
    return other.switch()


def kill(other: greenlet) -> None:
    """Throw GreenletExit into ``other``."""
    other.throw()


@pytest.mark.rule("M13")
def test_another_greenlet_is_refused(shop: Shop) -> None:
    """A greenlet may share the context of its parent, and still is somebody else."""

    def view() -> str:
        session = shop.session
        other: Any = greenlet(lambda: pytest.raises(ScopeOwnershipError, lambda: shop.session))  # noqa: RUF061
        other.gr_context = contextvars.copy_context()
        refused = switch(other)
        assert_refused(refused.value, "thread 'MainThread'", "a greenlet in thread 'MainThread'")
        assert shop.session is session
        return "ok"

    assert shop.serve(view).text == "ok"


@pytest.mark.rule("M13")
def test_greenlets_of_one_thread_each_have_their_own_request(shop: Shop) -> None:
    """Two requests in one thread, interleaved, as gevent's workers serve them."""
    seen: list[Session] = []

    def serve() -> None:
        with shop.app.test_request_context():
            session = shop.session
            seen.append(session)
            session.connection()
            main_greenlet().switch()
            assert shop.session is session

    greenlets = [greenlet(contextvars.copy_context().run) for _ in range(2)]
    for each in greenlets:
        each.switch(serve)
    assert connections_held(shop.engine) == 2
    for each in greenlets:
        switch(each)

    assert len({*seen}) == 2
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M13", "M17", "T1")
def test_a_killed_greenlet_leaves_nothing_behind(shop: Shop) -> None:
    """GreenletExit in the middle of a view: rolled back, closed, as any other end."""

    @shop.manager.transactional
    def index() -> None:
        shop.write()
        main_greenlet().switch()

    shop.app.add_url_rule("/", "index", as_view(index))
    worker = greenlet(contextvars.copy_context().run)
    worker.switch(shop.get, "/")
    assert connections_held(shop.engine) == 1
    kill(worker)

    assert worker.dead
    assert connections_held(shop.engine) == 0
    assert shop.kept() == []


GEVENT = """
from gevent import monkey
monkey.patch_all()

import gevent, sys
from flask import Flask, copy_current_request_context
from sqlalchemy import text
from flask_reqsession import RequestScopedSessionManager, ScopeOwnershipError

app = Flask("green")
manager = RequestScopedSessionManager(sys.argv[1], app)
sessions = []

@app.get("/")
@manager.transactional
def index():
    session = manager.session
    sessions.append(session)
    session.execute(text("INSERT INTO note (text) VALUES (:text)"), {"text": str(len(sessions))})
    session.commit if False else None
    gevent.sleep(0)
    assert manager.session is session
    return "ok"

@app.get("/spawn")
def spawn():
    session = manager.session
    try:
        gevent.spawn(copy_current_request_context(lambda: manager.session)).get()
    except ScopeOwnershipError as refused:
        assert manager.session is session
        return str(refused)

def get(path):
    return app.test_client().get(path).text

print([job.get() for job in [gevent.spawn(get, "/") for _ in range(3)]], len(set(sessions)))
print(get("/spawn"))
print(manager.databases.engine().pool.checkedout())
"""


@pytest.mark.rule("M13")
@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_gevent_serves_each_request_in_a_greenlet(postgresql_shop: Shop) -> None:
    """In a process of its own, since monkey-patching is for good."""
    done = subprocess.run(
        [sys.executable, "-c", GEVENT, postgresql_shop.url],
        check=True,
        capture_output=True,
        text=True,
    )
    served, refused, held = done.stdout.splitlines()
    assert served == "['ok', 'ok', 'ok'] 3"
    assert "a greenlet in thread" in refused
    assert held == "0"
    assert sorted(map(str, postgresql_shop.kept())) == ["1", "2", "3"]
