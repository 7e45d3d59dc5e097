"""The lines of all panels, bounded: what the page gets, and what of it is new since it last asked."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

MOST_POINTS = 600  # of a line; from then on two neighbours become one
MOST_LINES = 4000
_DIGITS = 6


@dataclass(frozen=True)
class Key:
    """A line: the panel's and the series' place in the boards, the run's among those watched, and the line's labels."""

    panel: int
    series: int
    run: int
    labels: tuple[tuple[str, str], ...]


@dataclass
class Line:
    """`points` are (number, Unix time, step or None, mean, lowest, highest); `from_number`: what was sent before that one is
    void."""

    name: str
    points: list[tuple[int, float, float | None, float, float, float]] = field(default_factory=list)
    from_number: int = 0


class Lines:
    """All lines, for one that adds and many that ask. Points are numbered in the order in which they came; `number` is the last
    one's."""

    def __init__(self) -> None:
        self.number = 0
        self._lock = threading.Lock()
        self._lines: dict[Key, Line] = {}
        self._removed: dict[Key, int] = {}

    def add(self, key: Key, name: str, at: float, step: float | None, value: float) -> None:
        """A point at the line's end. What is not finite leaves a gap; of too many lines the last are not kept."""
        if not math.isfinite(value) or (key not in self._lines and len(self._lines) >= MOST_LINES):
            return
        with self._lock:
            line = self._lines.setdefault(key, Line(name, from_number=self.number + 1))
            self._removed.pop(key, None)
            self.number += 1
            line.points.append((self.number, at, step, value, value, value))
            if len(line.points) > MOST_POINTS:
                self._halve(line)

    def mark(self) -> int:
        """A new number, for what is news without being a point."""
        with self._lock:
            self.number += 1
            return self.number

    def _halve(self, line: Line) -> None:
        pairs = zip(line.points[::2], line.points[1::2], strict=False)
        odd = [line.points[-1]] if len(line.points) % 2 else []
        merged = [(b[0], b[1], b[2], (a[3] + b[3]) / 2, min(a[4], b[4]), max(a[5], b[5])) for a, b in pairs]
        self.number += 1
        line.points, line.from_number = [*merged, *odd], self.number
        line.points[-1] = (self.number, *line.points[-1][1:])

    def remove(self, run: int, places: Collection[tuple[int, int]] | None = None, stage: str = "") -> None:
        """Forget a run's lines that are of these series and of that stage: its log was begun anew. Without them, all of its."""
        with self._lock:
            for key in [k for k in self._lines if k.run == run]:
                if places is None or ((key.panel, key.series) in places and ("stage", stage) in key.labels):
                    del self._lines[key]
                    self.number += 1
                    self._removed[key] = self.number
            while len(self._removed) > MOST_LINES:
                self._removed.pop(next(iter(self._removed)))

    def since(self, number: int) -> tuple[int, list[dict[str, Any]]]:
        """The last number, and lines with what is new since `number`; `anew`: in place of all points that were sent before."""
        with self._lock:
            return self.number, [*self._gone(number), *self._new(number)]

    def _gone(self, number: int) -> Iterator[dict[str, Any]]:
        for key, gone_at in self._removed.items():
            if number and gone_at > number:
                yield {**_named(key, ""), "anew": True, "points": []}

    def _new(self, number: int) -> Iterator[dict[str, Any]]:
        for key, line in self._lines.items():
            anew = number < line.from_number
            points = line.points if anew else [*takewhile(lambda point: point[0] > number, reversed(line.points))][::-1]
            if points:
                yield {**_named(key, line.name), "anew": anew, "points": [_sent(p) for p in points]}


def _named(key: Key, name: str) -> dict[str, Any]:
    return {"panel": key.panel, "series": key.series, "run": key.run, "labels": dict(key.labels), "name": name}


def _sent(point: tuple[int, float, float | None, float, float, float]) -> list[float | None]:
    _, at, step, mean, low, high = point
    whole = [round(at, 2), step, _short(mean)]
    return whole if low == high else [*whole, _short(low), _short(high)]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
