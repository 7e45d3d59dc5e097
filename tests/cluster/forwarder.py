"""The way to a server, which can be cut: connections are forwarded byte by byte, or end at once."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

HOST = "127.0.0.1"


class Forwarder:
    """Listens on loopback at `port`. While `cut`, every connection is closed, old ones too; `refused` counts them."""

    def __init__(self, target: int) -> None:
        self._target, self._cut, self.refused = target, threading.Event(), 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server((HOST, 0), backlog=256)
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self.cut()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                if self._cut.is_set():
                    self.refused += 1
                    client.close()
                    continue
                server = socket.create_connection((HOST, self._target))
            except OSError:
                if self._server.fileno() < 0:
                    return
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            both_ended = source not in self._open or sink not in self._open
            self._open -= {source}
        if both_ended:
            source.close()
            sink.close()


@contextlib.contextmanager
def forwarder(address: str) -> Iterator[Forwarder]:
    """A way to the server at the URL `address`."""
    made = Forwarder(int(address.rpartition(":")[2]))
    try:
        yield made
    finally:
        made.close()
