"""A small HTTP server for scrapers. Clients that disconnect, send half a request or come in hundreds never affect the run."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lehr.monitoring.serving.exposition import Exposition, Health, handler

LOG = logging.getLogger("lehr.monitoring")
CONNECTIONS = 32  # at the same time, one thread each; further connections are closed at once
PATIENCE_SECONDS = 5.0  # time-out for the rest of a request, and for a client that does not read


class Server(ThreadingHTTPServer):
    """Threads end with the process; at most CONNECTIONS of them run at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        """An `address` of IPv6 is served in both families, where it stands for all addresses. Raises OSError."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)

    def start(self) -> None:
        """Answer on a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.1,), name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Answer no more, and free the port."""
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        if isinstance(request, socket.socket):
            request.settimeout(PATIENCE_SECONDS)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnected is not worth a message, and a traceback would not belong on the run's terminal."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            LOG.warning("metrics: a request failed: %s", " ".join(repr(error).split())[:300])


def serve(
    address: str, port: int, exposition: Exposition, health: Health, note: Callable[[str], None] = LOG.warning
) -> tuple[Server | None, str]:
    """Serve an exposition; returns the server and its URL. Port 0 means any free port; if `port` is taken, a free one is used
    and `note` is called. Without any port there is no server, and the URL is empty."""
    for candidate in dict.fromkeys((port, 0)):
        try:
            server = Server((address, candidate), handler(exposition, health))
        except (OSError, OverflowError) as error:
            otherwise = "taking a free port" if candidate else "there will be no /metrics"
            note(f"metrics: cannot listen on {address}:{candidate} ({error}); {otherwise}")
            continue
        server.start()
        host = f"[{address}]" if ":" in address else address
        return server, f"http://{host}:{server.server_address[1]}/metrics"
    return None, ""
