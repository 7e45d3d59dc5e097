"""What a decision about one node needs to know of the others. infra/fleet/summary.py makes it of all NodeViews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lehr.infra.fleet.views import CordonEvent


@dataclass(frozen=True)
class PoolView:
    nodes: int
    cordoned: int = 0  # by us, because of a fault, right now (burn-in and people's cordons not counted)


@dataclass(frozen=True)
class ReporterScore:
    confirmed: int = 0
    refuted: int = 0


@dataclass(frozen=True)
class LinkView:
    """What pair tests say of a suspect so far. `partner`: to be tested with now. `reason` and `detail` of a bad one."""

    verdict: Literal["open", "good", "bad"]
    partner: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class FleetView:
    """The rest of the fleet. infra/fleet/summary.py makes it of all NodeViews; small whatever the number of nodes."""

    pools: Mapping[str, PoolView] = field(default_factory=dict)
    racks: Mapping[str, int] = field(default_factory=dict)  # nodes in each
    cordons: tuple[CordonEvent, ...] = ()  # automatic ones, the breaker's window at least
    blocked: Mapping[str, float] = field(default_factory=dict)  # breaker key -> Unix time of the newest refusal that waits
    resets: Mapping[str, float] = field(default_factory=dict)  # breaker key -> Unix time of a person's reset
    reporters: Mapping[str, ReporterScore] = field(default_factory=dict)
    links: Mapping[str, LinkView] = field(default_factory=dict)  # of suspects whose work hung
