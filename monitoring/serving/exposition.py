"""What scrapers get: /metrics and /health over HTTP, so that none of them costs the run anything worth mentioning."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

FRESH_SECONDS = 0.5  # scrapes that come closer together get the same text
Health = Callable[[], tuple[int, dict[str, object]]]


class Exposition:
    """The text of a registry, made at most every FRESH_SECONDS however many ask, and when it was last fetched."""

    def __init__(
        self, registry: CollectorRegistry, before: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`before` is called before the registry is read, by one scraper at a time."""
        self._registry, self._before, self._now = registry, before, now
        self.fresh_seconds = FRESH_SECONDS
        self._making, self._fetched = threading.Lock(), threading.Condition()
        self._texts: dict[str, tuple[float, str, bytes]] = {}
        self._times: list[float] = []  # of the last two scrapes

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and text, in Prometheus' format or OpenMetrics as the header `accept` asks."""
        encode, kind = choose_encoder(accept)
        with self._making:
            made = self._texts.get(kind)
            if made is None or self._now() - made[0] >= self.fresh_seconds:
                self._before()
                made = self._texts[kind] = (self._now(), kind, encode(self._registry))
        return made[1], made[2]

    def fetched(self) -> None:
        """A scraper has got it."""
        with self._fetched:
            self._times = [*self._times[-1:], self._now()]
            self._fetched.notify_all()

    @property
    def interval(self) -> float | None:
        """Seconds between the last two scrapes; None if there were none."""
        return self._times[1] - self._times[0] if len(self._times) == 2 else None

    def await_fetch(self, limit: float) -> bool:
        """Wait until the values as they are now have been fetched, at most `limit` seconds. Returns whether they were."""
        with self._making:
            self._texts.clear()  # what is fetched from now on is made from now on
        asked = self._now()
        with self._fetched:
            return self._fetched.wait_for(lambda: bool(self._times) and self._times[-1] > asked, limit)


def handler(exposition: Exposition, health: Health) -> type[BaseHTTPRequestHandler]:
    """The request handler of a server (server.py) for one exposition."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/") or "/"
            if path == "/metrics":
                self._answer(200, *exposition.render(self.headers.get("Accept", "")))
                exposition.fetched()
            elif path == "/health":
                status, body = health()
                self._answer(status, "application/json", json.dumps(body).encode() + b"\n")
            else:
                self._answer(404, "text/plain; charset=utf-8", b"Here are /metrics and /health.\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None  # one line for each scrape would bury the run's own output

    return Handler
