"""How far the scoring of a task's requests is, said now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 30.0  # between two lines, as in the preparation of documents


class Pace:
    """What a model that scores is watched by (LanguageModel.watch): a line of rank 0's requests at most every half minute."""

    def __init__(self, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.note, self.clock, self.task = note, clock, ""
        self._began = self._said = clock()

    def begin(self, task: str) -> None:
        self.task, self._began = task, self.clock()
        self._said = self._began

    def __call__(self, done: int, total: int) -> None:
        now = self.clock()
        if done == 1:
            self._began = now  # a later list of requests of the same task has a rate of its own
        if done == total or now - self._said < SECONDS:
            return
        self._said = now
        rate = done / max(now - self._began, 1e-9)
        self.note(
            f"{self.task}: {done:,} of {total:,} requests, {rate:,.1f} a second, {(total - done) / rate / 60:,.1f} minutes left"
        )
