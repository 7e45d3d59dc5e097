"""The sockets: a few connections, each with a limited time for each request, on one address or on both of loopback's."""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lehr.runtime.errors import UserError
from lehr.serving import counts

LOG = logging.getLogger("lehr.serving")
CONNECTIONS = 128  # at the same time, one thread each
SPARE = 16  # more, for scrapers and health probes: others are told to come again; further ones are closed at once
READ_SECONDS = 20.0  # for a whole request, from the end of the one before on
WRITE_SECONDS = 20.0  # for a client that does not read, each time that something is sent
LOOPBACK = ("127.0.0.1", "::1")


class Deadline(io.RawIOBase):
    """What a socket receives, until a moment that is set anew before each request: a client that sends a byte now and then does
    not hold a connection for longer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._until = connection, 0.0
        self.renew()

    def renew(self) -> None:
        """A new request begins."""
        self._until = time.monotonic() + READ_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(max(self._until - time.monotonic(), 0.001))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(WRITE_SECONDS)


class Connections:
    """Those that all listeners have open together. Without the spare ones a server that is full of requests could not say so:
    a scraper, or a probe of its health, would find it dead."""

    limit = CONNECTIONS

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usual, self._spare = set[Any](), set[Any]()

    def __len__(self) -> int:
        return len(self._usual) + len(self._spare)

    def take(self, connection: Any) -> bool:
        """Whether there is a place for it."""
        with self._lock:
            places = self._usual if len(self._usual) < self.limit else self._spare
            if places is self._spare and len(places) >= SPARE:
                return False
            places.add(connection)
            return True

    def free(self, connection: Any) -> None:
        """It is over."""
        with self._lock:
            self._usual.discard(connection)
            self._spare.discard(connection)

    def spare(self, connection: Any) -> bool:
        """Whether it has a spare place, where nothing is answered that takes long."""
        return connection in self._spare


class Listener(ThreadingHTTPServer):
    """One address. Threads end with the process; there are no more than Connections has places for."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], connections: Connections) -> None:
        """Raises OSError where the address is not to be had."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.connections = connections
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and self.server_address[0] != "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)  # HTTPServer's own asks a name server for the host's name
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.connections.take(request):
            counts.DROPPED.add(1)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self.connections.free(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.free(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnected is not worth a message."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            LOG.error("a request failed: %s", " ".join(repr(error).split())[:300])


def listen(host: str, port: int, handler: type[BaseHTTPRequestHandler], connections: Connections) -> tuple[list[Listener], str]:
    """Listen, and return the listeners and the address to type. `host` is an address; "" stands for this machine's loopback in
    both families, where it has both. Port 0 takes a free one. Raises UserError where it is not to be had."""
    first = host or LOOPBACK[0]
    try:
        listeners = [Listener((first, port), handler, connections)]
    except (OSError, OverflowError) as error:
        what = getattr(error, "strerror", None) or str(error)
        remedy = "give another --port, or 0 for a free one; --host is an address of this machine"
        raise UserError(f"cannot listen at {first}, port {port}: {what}", remedy=remedy) from None
    chosen = listeners[0].server_port
    if not host:
        try:
            listeners.append(Listener((LOOPBACK[1], chosen), handler, connections))
        except OSError as error:  # a machine without IPv6, or another's port there
            LOG.info("not on [::1]:%d: %s", chosen, error)
    for listener in listeners:
        threading.Thread(target=listener.serve_forever, args=(0.1,), name="listening", daemon=True).start()
    shown = f"[{first}]" if ":" in first else first
    return listeners, f"http://{shown}:{chosen}"
