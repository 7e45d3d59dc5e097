"""Which of a stage's training steps MLflow gets: its charts freeze with more than some thousand points (mlflow#9779)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

_EVENTS = ("skipped", "not_finite")  # numbers that tell of something when they are not 0


class Thinning:
    """Keeps every `stride`-th step whole and the last one. Of the others those at which something happened, and the numbers
    that the step before did not have, such as the size of a checkpoint: of each number at most `most` in this way."""

    def __init__(self, total_steps: int, most: int) -> None:
        """`total_steps` 0: unknown; the stride doubles whenever `most` steps were kept."""
        self.stride = max(1, -(-total_steps // most))
        self._most, self._kept = most, 0
        self._between: Counter[str] = Counter()  # kept between the strides, by name
        self._before: frozenset[str] | None = None  # the names of the step before

    def kept(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """What of a step's metrics is recorded; may be nothing."""
        if self.stride == 1 and total_steps:
            return metrics
        names = frozenset(metrics)
        before, self._before = self._before, names
        if step % self.stride == 0 or step == total_steps:
            self._kept += 1
            if self._kept >= self._most and not total_steps:
                self.stride, self._kept = 2 * self.stride, self._kept // 2
            return metrics
        if any(metrics.get(name) for name in _EVENTS) or not math.isfinite(metrics.get("loss", 0.0)):
            return self._counted(metrics, names)
        return self._counted(metrics, names - before) if before is not None and names != before else {}

    def _counted(self, metrics: Mapping[str, float], names: Iterable[str]) -> Mapping[str, float]:
        found = [name for name in names if self._between[name] < self._most]
        self._between.update(found)
        return {name: metrics[name] for name in found}
