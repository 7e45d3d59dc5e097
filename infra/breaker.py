"""Blast-radius breakers: how many automatic cordons are believable in a window, and whether one more is."""

from __future__ import annotations

from dataclasses import dataclass

from infra.policy import Policy
from infra.views import FleetView


@dataclass(frozen=True)
class BreakerStatus:
    """One scope now. `key`: pool/NAME, check/NAME@VERSION, rack/NAME or cap/POOL. `budget`: cordons left, 0 if open."""

    key: str
    limit: int
    count: int
    open: bool
    budget: int


def statuses(fleet: FleetView, policy: Policy, now: float) -> list[BreakerStatus]:
    """Every pool's breakers, and those of checks and racks that counted a cordon or refused one. For the gauges."""
    raise NotImplementedError(fleet, policy, now)
