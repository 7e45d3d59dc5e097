"""Samples in memory: what `evaluate` reads where there is no Prometheus."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Points = deque[tuple[float, float]]  # (Unix time, value), oldest first
STALE = float("nan")  # this object as a value: the series has gone, as Prometheus' own marker says


class History:
    """The last `keep_seconds` of every series that was added."""

    def __init__(self, keep_seconds: float = float("inf")) -> None:
        self._keep = keep_seconds
        self._series: dict[str, dict[Labels, Points]] = {}
        self._scraped: dict[Labels, set[tuple[str, Labels]]] = {}  # by target, its series in the last scrape

    def add(self, name: str, labels: Mapping[str, str], at: float, value: float) -> None:
        """One sample; those of a series come in order of time."""
        points = self._series.setdefault(name, {}).setdefault(frozenset(labels.items()), deque())
        points.append((at, value))
        while at - points[0][0] > self._keep:
            points.popleft()

    def thin(self, before: float, apart: float) -> None:
        """Of the samples older than `before`, in Unix seconds, keep one in `apart` seconds, and marks of ends; drop series of
        which nothing is left that `keep_seconds` allows."""
        for series in self._series.values():
            for labels, points in list(series.items()):
                kept: Points = deque()
                for at, value in points:
                    if at >= before or value is STALE or not kept or at - kept[-1][0] >= apart:
                        kept.append((at, value))
                series[labels] = kept
                if points[-1][0] < before and before - points[-1][0] > self._keep:
                    del series[labels]

    def scrape(self, text: str, at: float, labels: Mapping[str, str] | None = None) -> None:
        """All samples of an exposition in Prometheus' text format. `labels` name the target, as a scrape's do; its series that
        are no longer there have ended. Raises ValueError for other text."""
        target, found = frozenset((labels or {}).items()), set[tuple[str, Labels]]()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                named = {**sample.labels, **(labels or {})}
                self.add(sample.name, named, at, sample.value)
                found.add((sample.name, frozenset(named.items())))
        for name, gone in self._scraped.get(target, set()) - found:
            self.add(name, dict(gone), at, STALE)
        self._scraped[target] = found

    def named(self, name: str) -> Iterator[tuple[dict[str, str], Points]]:
        """The series of that name: labels and points."""
        for labels, points in self._series.get(name, {}).items():
            yield dict(labels), points

    def values(self, label: str) -> list[str]:
        """All values that a label has in any series, sorted."""
        return sorted({value for of in self._series.values() for labels in of for name, value in labels if name == label})
