"""A real WSGI server in a thread, and a client that speaks HTTP to it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from flask import Flask
from werkzeug.serving import make_server

LOOPBACK = "127.0.0.1"
TIMEOUT = 30
"""Seconds after which a request that was not answered is an error."""


@contextmanager
def serving(app: Flask, port: int = 0) -> Iterator[str]:
    """Serve ``app`` on the loopback interface, on a free port by default; yield the address."""
    server = make_server(LOOPBACK, port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="server")
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Answer(NamedTuple):
    """What came back."""

    status: int
    text: str


class Client:
    """Sends requests and returns whatever the server answers, redirects and errors included."""

    def __init__(self, address: str) -> None:
        self._address = address
        # No proxy of the surroundings stands between us and the loopback interface.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _StayHere)

    def get(self, path: str) -> Answer:
        """Fetch a page."""
        return self._send(path)

    def post_json(self, path: str, payload: object) -> Answer:
        """Send JSON."""
        return self._send(path, json.dumps(payload), "application/json")

    def post_form(self, path: str, **fields: object) -> Answer:
        """Send what a browser sends for a form."""
        return self._send(path, urllib.parse.urlencode(fields))

    def _send(
        self, path: str, body: str | None = None, kind: str = "application/x-www-form-urlencoded"
    ) -> Answer:
        request = urllib.request.Request(  # noqa: S310 - always http, to the server above
            self._address + path, body.encode() if body is not None else None
        )
        request.add_header("Content-Type", kind)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Report a redirect instead of following it."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None
