"""Looks at the watched runs again and again, and says what is new."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lehr.monitoring.watch.lines import Lines
from lehr.monitoring.watch.run import WatchedRun
from lehr.monitoring.watch.shown import Shown

LOG = logging.getLogger("lehr.monitoring")
LOOK_SECONDS = 2.0
SLOW_SECONDS = 5.0  # between two looks, once it has been watched for SLOW_AFTER
SLOW_AFTER = 900.0
NEWEST_SECONDS = 5.0  # between two looks for a newer run
Newest = Callable[[], Path | None]


class Watcher:
    """The runs at `where`, folders or exporters' addresses; without any, the one that `newest` names, and each newer one that
    is at work."""

    def __init__(self, where: Sequence[Path | str], newest: Newest | None = None, now: Callable[[], float] = time.time) -> None:
        self.session = secrets.token_hex(8)  # numbers of points mean something within one
        self._shown, self._lines, self._now = Shown(), Lines(), now
        self.runs = [WatchedRun(number, each, self._shown, self._lines) for number, each in enumerate(where)]
        self._newest, self._asked_newest, self._began = newest, float("-inf"), now()
        self._said: list[str] = []
        self._over = threading.Event()

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return LOOK_SECONDS if self._now() - self._began < SLOW_AFTER else SLOW_SECONDS

    def look(self) -> None:
        """At every run, once. What is wrong with one keeps none of the others from being seen."""
        now = self._now()
        self._keep_going(lambda: self._follow(now))
        for run in self.runs:
            self._keep_going(partial(run.look, self._now, self.interval))

    def _keep_going(self, look: Callable[[], None]) -> None:
        """A run's folder may hold anything, and change while it is read: the page goes on, and each thing is said once."""
        try:
            look()
        except Exception as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}"[:300]
            if said not in self._said:
                self._said = [*self._said[-20:], said]
                LOG.warning("watch: %s", " ".join(said.split()))

    def _follow(self, now: float) -> None:
        """Without a named run: the newest, and a newer one as soon as it is at work."""
        if self._newest is None or now - self._asked_newest < NEWEST_SECONDS:
            return
        self._asked_newest = now
        found = self._newest()
        shown = self.runs[0].folder if self.runs else None
        if found is None or (shown is not None and (shown.folder == found or shown.at_work)):
            return
        for run in self.runs:
            self._lines.remove(run.number)
        number = self.runs[-1].number + 1 if self.runs else 0
        self.runs = [WatchedRun(number, found, self._shown, self._lines)]

    def news(self, since: int, session: str = "") -> dict[str, Any]:
        """What is new since the point of that number; all of it for another session's."""
        since = since if session == self.session and 0 <= since <= self._lines.number else 0
        number, lines = self._lines.since(since)
        return {
            "session": self.session,
            "number": number,
            "whole": not since,
            "now": round(self._now(), 2),
            "interval": self.interval,
            **({"board": self._shown.as_json()} if not since else {}),
            "runs": [run.shown(since) for run in self.runs],
            "lines": lines,
        }

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        threading.Thread(target=self._go_on, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _go_on(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(self.interval)
