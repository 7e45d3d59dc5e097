"""The page over HTTP, for browsers of this machine alone."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

from lehr.monitoring.serving.server import Server
from lehr.monitoring.watch import page
from lehr.monitoring.watch.watcher import Watcher
from lehr.runtime.errors import UserError

ADDRESS = "127.0.0.1"
# By which a browser of this machine, or one behind a forwarded port, can name it. Any other name is a page's that had its own
# domain lead here, to read what is served (DNS rebinding).
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEADERS = {
    "Content-Security-Policy": page.SERVED,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def serve(watcher: Watcher, port: int) -> tuple[Server, str]:
    """Serve the page on loopback; returns the server and its address. Raises UserError if `port` is not to be had."""
    try:
        server = Server((ADDRESS, port), handler(watcher))
    except OSError as error:
        raise UserError(
            f"cannot listen at port {port}: {error.strerror}", remedy="give another --port, or none for a free one"
        ) from error
    threading.Thread(target=server.serve_forever, args=(0.1,), name="watch-http", daemon=True).start()
    return server, f"http://{ADDRESS}:{server.server_address[1]}/"


def is_local(host: str) -> bool:
    """Whether a Host header names this machine."""
    name, colon, port = host.strip().rpartition(":")
    if not colon or host.endswith("]"):
        return host.strip().lower() in NAMES
    return name.lower() in NAMES and port.isascii() and port.isdigit()


def handler(watcher: Watcher) -> type[BaseHTTPRequestHandler]:
    """The request handler for one watcher. There is nothing but GET, so that no other page can make it do anything."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "lehr", ""

        def do_GET(self) -> None:
            hosts = self.headers.get_all("Host") or []
            if len(hosts) != 1 or not is_local(hosts[0]):
                self._answer(403, "text/plain", "This page is for browsers of this machine: http://127.0.0.1.\n")
                return
            path, _, query = self.path.partition("?")
            if path == "/":
                self._answer(200, "text/html", page.served())
            elif path == "/watch.css":
                self._answer(200, "text/css", page.style())
            elif path == "/watch.js":
                self._answer(200, "text/javascript", page.script())
            elif path == "/news":
                self._answer(200, "application/json", json.dumps(watcher.news(*_asked(query)), allow_nan=False))
            else:
                self._answer(404, "text/plain", "There is / and nothing else.\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None  # two lines a second would bury what the command says

    return Handler


def _asked(query: str) -> tuple[int, str]:
    """`since` and `session` of a query; 0 and "" for what makes no sense."""
    found = dict(urllib.parse.parse_qsl(query[:200]))
    since = found.get("since", "")
    return (int(since) if since.isascii() and since.isdigit() and len(since) < 16 else 0), found.get("session", "")
