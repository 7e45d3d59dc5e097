"""Asks a run's exporter for its metrics, as Prometheus does, and keeps an hour of what panels ask for."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Collection

from lehr.monitoring.panels.history import History
from lehr.runtime.text import visible

KEEP_SECONDS = 3600.0
DENSE_SECONDS, APART_SECONDS = 120.0, 15.0  # samples older than this are kept so far apart
PATIENCE_SECONDS = 3.0
MOST_BYTES = 8 << 20


class _Stay(urllib.request.HTTPRedirectHandler):
    """Nobody is asked but who was named."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


# No proxy either: an exporter of this machine is none's business.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())


class Scraper:
    """The samples of one exporter, whose address may change when its run is started again."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self.history = History(KEEP_SECONDS)
        self.error = ""  # why the last look failed
        self.seen = self.first = self._thinned = 0.0  # Unix times of the last one that did not, and of the first

    def look(self, url: str, now: float) -> bool:
        """Fetch once. Returns whether there are new samples; `error` says why not. They are of the time at which they came."""
        began = time.monotonic()
        try:
            text = _fetched(url)
            now += time.monotonic() - began
            self.history.scrape("\n".join(line for line in text.splitlines() if self._wanted(line)) + "\n", now)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            self.gone(now, visible(" ".join(str(reason).split()))[:200] or type(error).__name__)
            return False
        if now - self._thinned > DENSE_SECONDS / 2:
            self.history.thin(now - DENSE_SECONDS, APART_SECONDS)
            self._thinned = now
        self.error, self.seen, self.first = "", now, self.first or now
        return True

    def gone(self, now: float, error: str) -> None:
        """Nobody serves it now: its series have ended, as in Prometheus."""
        self.error = error
        if self.seen:
            self.history.scrape("", now)

    def _wanted(self, line: str) -> bool:
        return line.partition("{")[0].partition(" ")[0] in self._names


def _fetched(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": "text/plain;version=0.0.4"})
    with _OPENER.open(request, timeout=PATIENCE_SECONDS) as answer:
        raw: bytes = answer.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError("it answers with more than 8 MiB: this is no exporter")
    return raw.decode("utf-8", errors="replace")
