"""When a query is asked of samples that have only just begun."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.monitoring.panels.evaluate import Moment

_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Asked(Moment):
    """A moment whose windows begin no earlier than the first samples, at `since`. Prometheus divides what a run did in its
    first minute by all ten of `rate(...[10m])`: whoever has just started a run would read that it takes ten times too long."""

    since: float = 0.0

    def seconds(self, window: str) -> float:
        """The length of a window."""
        known = self.at - self.since + 1e-3  # a window is open at its left end
        return min(super().seconds(window), max(known, _LEAST_SECONDS))
