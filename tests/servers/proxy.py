"""A proxy between a driver and its server that loses the connection at COMMIT."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

from sqlalchemy import URL, make_url

_CHUNK: Final = 65536


class Cut(Enum):
    """When the connection is lost."""

    BEFORE = "before the server has heard of the COMMIT"
    AFTER = "when the server has answered, and before the client has heard of it"


class Proxy:
    """Passes on what client and server say, until it cuts one connection in two."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._cut: Cut | None = None
        self._others: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._answering: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop, self._stopped = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stopped, selectors.EVENT_READ)

    def url(self, url: str) -> str:
        """Return ``url`` by way of the proxy."""
        host, port = self._listener.getsockname()
        through = make_url(url).set(host=host, port=port).difference_update_query(_SOCKETS)
        return through.render_as_string(hide_password=False)

    def cut_next(self, cut: Cut) -> None:
        """Lose the connection on which the next COMMIT is sent."""
        self._cut = cut

    def run(self) -> None:
        """Work until :meth:`stop`."""
        while True:
            for key, _events in self._selector.select():
                given: Any = key.fileobj
                if given is self._stopped:
                    return
                if given is self._listener:
                    self._connect()
                elif given in self._others:
                    self._pass_on(given)

    def _connect(self) -> None:
        client, _address = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        self._clients.add(client)
        self._others |= {client: server, server: client}
        for end in (client, server):
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        try:
            said = end.recv(_CHUNK)
        except ConnectionError:
            said = b""
        cut = self._cut if end in self._clients and b"COMMIT" in said else None
        if not said or end is self._answering or cut is Cut.BEFORE:
            self._close(end)
        else:
            self._others[end].sendall(said)
        if cut is not None:
            self._cut = None
        if cut is Cut.AFTER:
            self._answering = self._others[end]

    def _close(self, end: socket.socket) -> None:
        for each in (end, self._others.pop(end)):
            self._selector.unregister(each)
            self._others.pop(each, None)
            self._clients.discard(each)
            each.close()

    def stop(self, worker: threading.Thread) -> None:
        """Close everything."""
        self._stop.send(b".")
        worker.join()
        for end in self._clients.copy():
            self._close(end)
        for each in (self._listener, self._stop, self._stopped, self._selector):
            each.close()


_SOCKETS: Final = ("host", "unix_socket")


@contextmanager
def cutting_proxy(url: str) -> Generator[Proxy]:
    """Run a proxy to the server behind ``url``, which listens on a socket in the file system."""
    proxy = Proxy(_socket_of(make_url(url)))
    worker = threading.Thread(target=proxy.run)
    worker.start()
    try:
        yield proxy
    finally:
        proxy.stop(worker)


def _socket_of(url: URL) -> str:
    path = url.query.get("unix_socket")
    return str(path or f"{url.query['host']}/.s.PGSQL.5432")
