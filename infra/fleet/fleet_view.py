"""What a decision about one node needs to know of the others. infra/fleet/summary.py computes it from all NodeViews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lehr.infra.fleet.views import CordonEvent


@dataclass(frozen=True)
class PoolView:
    nodes: int
    cordoned: int = 0  # by us, because of a fault, right now (without burn-in and people's cordons)


@dataclass(frozen=True)
class ReporterScore:
    confirmed: int = 0
    refuted: int = 0


@dataclass(frozen=True)
class LinkView:
    """The result of pair tests of a suspect so far. `partner`: to be tested with now. `reason` and `detail`: of a bad one."""

    verdict: Literal["open", "good", "bad"]
    partner: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class FleetView:
    """The rest of the fleet, computed by infra/fleet/summary.py from all NodeViews; small, whatever the number of nodes."""

    pools: Mapping[str, PoolView] = field(default_factory=dict)
    racks: Mapping[str, int] = field(default_factory=dict)  # number of nodes
    cordons: tuple[CordonEvent, ...] = ()  # automatic ones, at least of the breaker's window
    blocked: Mapping[str, float] = field(default_factory=dict)  # breaker key -> Unix time of the newest pending refusal
    resets: Mapping[str, float] = field(default_factory=dict)  # breaker key -> Unix time of a person's reset
    reporters: Mapping[str, ReporterScore] = field(default_factory=dict)
    links: Mapping[str, LinkView] = field(default_factory=dict)  # of suspects whose work hung
