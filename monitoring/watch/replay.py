"""A stage's log as samples of the metrics that its run's exporter serves, so that one query is for both."""

from __future__ import annotations

from collections.abc import Iterator

from lehr.monitoring.metrics import METRICS, Metric
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.history import History
from lehr.monitoring.watch.asked import Asked
from lehr.monitoring.watch.log_tail import Moment, Row, is_step
from lehr.runtime.metrics import DEV, find

_LOGGED = {metric.of: metric for metric in METRICS if metric.of and metric.kind == "gauge"}
# What training measures of itself but does not log, so that a log is the same whenever a run is repeated.
_NOT_LOGGED = (m.TRAIN_STRAGGLER, m.TRAIN_SLOWEST, m.TRAIN_LOSS_LIMIT, m.TRAIN_NORM_LIMIT)
# All that is in a log. The limits, the parts of a step and the slowest rank are known from a living exporter alone.
IN_LOGS: frozenset[Metric] = frozenset(
    {
        *(metric for metric in _LOGGED.values() if metric not in _NOT_LOGGED),
        *(m.TRAIN_STEP, m.TRAIN_STEPS, m.TRAIN_STEPS_SKIPPED, m.TRAIN_ROLLBACKS, m.TRAIN_TOKENS),
        *(m.TRAIN_STEP_SECONDS, m.TRAIN_METRIC, m.TRAIN_DEV_METRIC),
    }
)
_KEEP_SECONDS = 3600.0
_LEAST_RATE_SECONDS = 15.0
_WHOLE = 120  # moments of a log for which counters are kept: rates and quantiles over windows need no more, and cost the most


class Replay:
    """The samples of one stage's log. `add` gives the moments at which they can be asked."""

    def __init__(self, run: str, stage: str) -> None:
        self.labels = {"run": run, "stage": stage}
        self.history = History(_KEEP_SECONDS)
        self.at = self._began = 0.0  # of the last row, and before the first
        self.seconds = 0.0  # of all steps
        self._totals: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._tokens, self._gap = 0.0, 0.0

    def add(self, moments: list[Moment], end: float, after: float = 0.0) -> Iterator[tuple[Asked, float, bool]]:
        """Take rows, the last of which is of Unix time `end`; after each, when to ask, the step that it is of, and whether
        counters can be asked too. A log has no clock: what lies between two rows is the time that the steps took. The first one
        is not before `after`, whenever the file was copied."""
        took = sum(moment.row.get("seconds", 0.0) for moment in moments if moment.steps)
        end = max(end, after + took)
        every = -(-len(moments) // _WHOLE)
        if moments and not self._totals:
            self._begin(end - took - 1e-3, took * every / len(moments))
        at = max(end - took, self.at)
        for place, moment in enumerate(moments, 1):
            at = max(at + (moment.row.get("seconds", 0.0) if moment.steps else 0.0), self.at + 1e-3)
            self.at = at
            self._step(moment, at) if is_step(moment.row) else self._other(moment.row, at)
            if whole := (place % every == 0 or place == len(moments)):
                for (name, labels), total in self._totals.items():
                    self.history.add(name, {**self.labels, **dict(labels)}, at, total)
            rate = max(_LEAST_RATE_SECONDS, 6 * self._gap)
            yield Asked(at, rate, max(_KEEP_SECONDS, rate), since=self._began), moment.row.get("step", 0.0), whole

    def _begin(self, at: float, gap: float) -> None:
        """Counters grow from 0: a rate over the first rows needs to know."""
        self.at = self._began = at
        self._gap = gap
        self.history = History(max(_KEEP_SECONDS, 12 * gap))
        for metric in (m.TRAIN_STEPS, m.TRAIN_TOKENS, m.TRAIN_ROLLBACKS):
            self._count(metric.name, 0.0)
        for reason in ("spike", "not_finite"):
            self._count(m.TRAIN_STEPS_SKIPPED.name, 0.0, reason=reason)
        self._observe(0.0, 0)
        for (name, labels), total in self._totals.items():
            self.history.add(name, {**self.labels, **dict(labels)}, at, total)

    def _step(self, moment: Moment, at: float) -> None:
        row, seconds = moment.row, moment.row["seconds"]
        self.seconds += seconds
        self._gauge(m.TRAIN_STEP, row.get("step", 0.0), at)
        self._count(m.TRAIN_STEPS.name, float(moment.steps))
        self._count(m.TRAIN_TOKENS.name, max(row.get("tokens", 0.0) - self._tokens, 0.0))
        self._tokens = max(self._tokens, row.get("tokens", 0.0))
        if row.get("skipped"):
            reason = "not_finite" if row.get("not_finite") else "spike"
            self._count(m.TRAIN_STEPS_SKIPPED.name, row["skipped"], reason=reason)
        self._observe(seconds / moment.steps, moment.steps)
        for key, value in row.items():
            if key in _LOGGED:
                self._gauge(_LOGGED[key], value, at)
            elif (declared := find(key)) is not None and declared.panel:
                self._gauge(m.TRAIN_METRIC, value, at, metric=key)

    def _other(self, row: Row, at: float) -> None:
        if "rolled_back_from" in row:
            self._count(m.TRAIN_ROLLBACKS.name, 1.0)
            return
        for key, value in row.items():
            if key.startswith(DEV):  # not the time that it took
                self._gauge(m.TRAIN_DEV_METRIC, value, at, metric=key)

    def _gauge(self, of: Metric, value: float, at: float, **labels: str) -> None:
        self.history.add(of.name, {**self.labels, **labels}, at, value)

    def _count(self, of: str, more: float, **labels: str) -> None:
        key = of, tuple(labels.items())
        self._totals[key] = self._totals.get(key, 0.0) + more

    def _observe(self, seconds: float, times: int) -> None:
        """So many observations of a step's time."""
        name = m.TRAIN_STEP_SECONDS.name
        for bound in m.TRAIN_STEP_SECONDS.buckets:
            self._count(f"{name}_bucket", times if seconds <= bound else 0, le=str(bound))
        self._count(f"{name}_bucket", times, le="+Inf")
        self._count(f"{name}_sum", seconds * times)
        self._count(f"{name}_count", times)
