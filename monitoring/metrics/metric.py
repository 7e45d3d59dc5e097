"""What a metric is: name, kind, unit, labels, and how many series it may become.

Names follow Prometheus practice: one prefix, base units in the name (`_seconds`, `_bytes`, `_joules`), `_total` for
counters. Labels never contain a step, a path or a measured value, so that their values are few: `LABELS` says how many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal

PREFIX = "lehr_"
Kind = Literal["counter", "gauge", "histogram"]
UNITS = ("seconds", "bytes", "joules", "ratio", "nats", "watts", "celsius", "percent", "kilograms", "liters")


@dataclass(frozen=True)
class Label:
    """`values`: how many a run, or a fleet, has at most. In Kubernetes each scrape adds its own labels (pod, namespace ...)."""

    meaning: str
    values: int


LABELS: dict[str, Label] = {
    "run": Label("the recipe's name and the beginning of the run's key: one run in one place", 1),
    "name": Label("the recipe's name", 1),
    "place": Label("the last part of the run's folder or address", 1),
    "stage": Label("the stage's name in the recipe's graph; a pod works on one", 1),
    "model": Label("the model's family", 1),
    "recipe": Label("the beginning of the recipe's SHA-256", 1),
    "reason": Label("why, from a fixed list", 12),
    "metric": Label("the name of a number that training reports", 24),
    "part": Label("data, forward, backward, sampling, communication, optimizer, other", 7),
    "pass": Label("a pass over the files of a corpus: filter, overlap, write", 3),
    "category": Label("productive, rework, evaluation, checkpoint, startup, stalled, idle", 7),
    "ended": Label("finished, or whose error it was: user, machine, preempted, lehr, killed", 6),
    "operation": Label("a kind of request, to the object store or to a server of a model", 7),
    "direction": Label("sent or received", 2),
    "outcome": Label("how it ended, from a fixed list", 24),
    "source": Label("where a figure or an action comes from, from a fixed list", 6),
    "gpu": Label("index of the GPU on its node", 8),
    "task": Label("a task of the recipe's evaluation", 24),
    "split": Label("dev or held_out", 2),
    "namespace": Label("the pod's namespace", 1),
    "pod": Label("the pod's name", 1),
    "node": Label("a node's name", 1),
    "first_rank": Label("the rank of the pod's first process", 1),
    "pool": Label("a pool of nodes", 8),
    "state": Label("a node's state", 9),
    "suite": Label("node or pair", 2),
    "disposition": Label("confirmed or refuted", 2),
    "breaker": Label("a breaker's key: fleet, pool or rack", 40),
    "verb": Label("an HTTP method", 6),
    "resource": Label("a kind of object", 16),
    "code": Label("an HTTP status", 12),
}


@dataclass(frozen=True)
class Metric:
    """One metric as it appears on /metrics: `name` is complete, counters end in `_total`.

    Where its value comes from, if not from the exporter itself: `of` is the training loop's metric (`lehr.runtime.metrics`)
    whose last value a gauge has, or whose sum a counter is; `counted` the library's count (`lehr.runtime.counters`). `lasts`:
    a gauge that is still true after its stage has ended. `bound` overrides the product of its labels' values, where they do
    not occur in all combinations. `needs`: what a machine must have for it to exist, "" for nothing.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ("run", "stage")
    buckets: tuple[float, ...] = ()
    of: str = ""
    counted: str = ""
    lasts: bool = False
    bound: int = 0
    needs: str = field(default="", compare=False)

    @property
    def unit(self) -> str:
        """The base unit in the name; "" for a number without one."""
        words = self.name.removesuffix("_total").split("_")
        return next((unit for unit in UNITS if unit == words[-1] or (unit == "seconds" and unit in words)), "")

    @property
    def series(self) -> int:
        """The most series that one pod of a run has, or the controller of a fleet of 2,048 nodes. A process of `lehr run` has
        those of a run's stages one after the other, and keeps the counters."""
        combinations = self.bound or prod(LABELS[label].values for label in self.labels)
        return combinations * (len(self.buckets) + 3 if self.kind == "histogram" else 1)
