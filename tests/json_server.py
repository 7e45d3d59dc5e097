"""A server on loopback that speaks JSON, for tests of clients: what it answers is a function of the test's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, Any, Mapping[str, str]], tuple[int, Any]]  # of a path, a body (None for GET) and headers


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Its address. Each request is answered with the status and the body that `answer` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*answer(self.path, None, self.headers))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._say(*answer(self.path, body, self.headers))

        def _say(self, status: int, body: Any) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
