"""What a rule is, and the few PromQL expressions that several rules share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lehr.monitoring.metrics import Metric

RUN, STAGE = "namespace, run", "namespace, run, stage"
RUNBOOKS = "docs/runbooks"
Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus keeps of an expression; `name` is level:metric:operations."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def rendered(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        made: dict[str, Any] = {"record": self.name, "expr": flat(self.expr)}
        return made | ({"labels": dict(self.labels)} if self.labels else {})


@dataclass(frozen=True)
class Alert:
    """Something that needs a person: `critical` now, `warning` during the day. `lasts`: for how long the expression must hold;
    `keeps`: for how long the alert stays after it no longer does. `summary` names the next step, `description` the values."""

    name: str
    severity: Severity
    expr: str
    summary: str
    description: str
    lasts: str = "5m"
    keeps: str = ""

    def rendered(self) -> dict[str, Any]:
        """As Prometheus reads it; the runbook's address is relative to the repository, the chart puts a base before it."""
        keeps = {"keep_firing_for": self.keeps} if self.keeps else {}
        return {
            "alert": self.name,
            "expr": flat(self.expr),
            "for": self.lasts,
            **keeps,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}/{self.name}.md",
            },
        }


Rule = Recording | Alert


def group(name: str, rules: Iterable[Rule]) -> dict[str, Any]:
    """A group of rules, evaluated one after the other."""
    return {"name": name, "rules": [rule.rendered() for rule in rules]}


def flat(expr: str) -> str:
    """An expression on one line."""
    return " ".join(expr.split())


def highest(metric: Metric, by: str = STAGE, where: str = "") -> str:
    """The largest value over the pods that serve the metric: one, or for a moment two while a pod is replaced."""
    return f"max by ({by}) ({metric.name}{where})"


def mean(metric: Metric, window: str, by: str = STAGE) -> str:
    """A gauge's mean over `window`, as "[15m]" or "[15m] offset 1h"."""
    return f"max by ({by}) (avg_over_time({metric.name}{window}))"


def rate(metric: Metric, window: str, by: str = STAGE, where: str = "") -> str:
    """How fast a counter grows a second, summed over pods."""
    return f"sum by ({by}) (rate({metric.name}{where}[{window}]))"


def increase(metric: Metric, window: str, by: str, where: str = "") -> str:
    """By how much a counter grew in `window`, summed over pods. PromQL's `increase` leaves out with what value a series begins,
    and that is all of it where a counter's first event is its last, or its pod is new: so this is added."""
    name = f"{metric.name}{where}"
    grew = f"increase({name}[{window}])"
    born = f"(min_over_time({name}[{window}]) unless {name} offset {window})"
    return f"sum by ({by}) ({grew} + {born} or {grew})"
