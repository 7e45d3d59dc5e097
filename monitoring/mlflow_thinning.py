"""Which of a stage's training steps MLflow gets: its charts freeze with more than some thousand points (mlflow#9779)."""

from __future__ import annotations

import math
from collections.abc import Mapping

_EVENTS = ("skipped", "not_finite")  # numbers that tell of something when they are not 0


class Thinning:
    """Keeps every `stride`-th step whole and the last one. Of the others, up to `most` times, those at which something
    happened, and the numbers that are rare by themselves, such as the size of a checkpoint."""

    def __init__(self, total_steps: int, most: int) -> None:
        """`total_steps` 0: unknown; the stride doubles whenever `most` steps were kept."""
        self.stride = max(1, -(-total_steps // most))
        self._most, self._kept, self._rare = most, 0, 0
        self._usual: frozenset[str] | None = None  # numbers of every step so far

    def kept(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """What of a step's metrics is recorded; may be nothing."""
        self._usual = frozenset(metrics) if self._usual is None else self._usual.intersection(metrics)
        if step % self.stride == 0 or step == total_steps:
            self._kept += 1
            if self._kept >= self._most and not total_steps:
                self.stride, self._kept = 2 * self.stride, self._kept // 2
            return metrics
        if self._rare >= self._most:
            return {}
        odd = any(metrics.get(name) for name in _EVENTS) or not math.isfinite(metrics.get("loss", 0.0))
        rare = metrics if odd else {name: value for name, value in metrics.items() if name not in self._usual}
        self._rare += bool(rare)
        return rare
