"""Blast-radius breakers: how many automatic cordons are plausible in a window, and whether one more is.

Four scopes limit every cordon: its pool, its rack, its check in its version (a check that fails on many nodes at once is more
likely wrong than the nodes are), and a cap on how much of a pool may be cordoned at one time. A limit is the number of failures
that healthy hardware exceeds in a window with a probability of `breaker_false_open`, and at least 2, so that small pools can
heal too. The expected rate is the policy's, not a measured one: a runaway check must not raise its own limit.
The breakers have no state of their own: cordons and refusals are recorded on the nodes. While a refused node still waits, its
breakers stay open: even after the window has emptied they allow one cordon per `breaker_half_open_seconds`, so that a faulty
check never gets a second burst. A person's reset (time per key) discards what was before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import HOUR, Policy
from lehr.infra.fleet.views import CordonEvent


@dataclass(frozen=True)
class BreakerStatus:
    """One scope now. `key`: pool/NAME, check/NAME@VERSION, rack/NAME or cap/POOL. `budget`: cordons left, 0 if open."""

    key: str
    limit: int
    count: int
    open: bool
    budget: int


# Cached: every decision of a round asks for the same few limits.
@lru_cache(maxsize=4096)
def poisson_quantile(mean: float, tail: float) -> int:
    """The smallest k with P(X > k) <= tail for X ~ Poisson(mean), for `mean` from 0 to 500 (exp(-mean) underflows beyond)."""
    term = math.exp(-mean)
    cumulative, k = term, 0
    while 1.0 - cumulative > tail and k < 10_000:
        k += 1
        term *= mean / k
        cumulative += term
    return k


def limit(nodes: int, policy: Policy, share: float = 1.0) -> int:
    """Automatic cordons allowed per window among `nodes` nodes, if `share` of the failures fall into the scope."""
    hours = policy.breaker_window_seconds / HOUR
    expected = policy.breaker_headroom * policy.failures_per_node_hour * hours * nodes * share
    return max(policy.breaker_minimum, poisson_quantile(min(expected, 500.0), policy.breaker_false_open))


def cap(nodes: int, policy: Policy) -> int:
    """Nodes that we may have cordoned at one time in a pool of `nodes`."""
    return max(policy.breaker_minimum, math.floor(policy.max_cordoned_fraction * nodes))


def keys_of(event: CordonEvent) -> Iterator[str]:
    """The windowed breakers that count `event`."""
    yield f"pool/{event.pool}"
    if event.check:
        yield f"check/{event.check}@{event.check_version}"
    if event.rack:
        yield f"rack/{event.rack}"


def refusals(event: CordonEvent, fleet: FleetView, policy: Policy) -> tuple[str, ...]:
    """Keys of the breakers that refuse the cordon `event`; empty if it is allowed."""
    refused = [key for key in keys_of(event) if _status(key, fleet, policy, event.at).open]
    pool = fleet.pools.get(event.pool)
    if pool is not None and pool.cordoned >= cap(pool.nodes, policy):
        refused.append(f"cap/{event.pool}")
    return tuple(refused)


def statuses(fleet: FleetView, policy: Policy, now: float) -> list[BreakerStatus]:
    """Every pool's breakers, and those of checks and racks that counted or refused a cordon. For the gauges."""
    keys = {f"pool/{name}" for name in fleet.pools}
    keys |= {key for event in fleet.cordons for key in keys_of(event)}
    keys |= {key for key in fleet.blocked if not key.startswith("cap/")}
    found = [_status(key, fleet, policy, now) for key in sorted(keys)]
    for name, pool in sorted(fleet.pools.items()):
        most = cap(pool.nodes, policy)
        left = max(0, most - pool.cordoned)
        found.append(BreakerStatus(f"cap/{name}", most, pool.cordoned, left == 0, left))
    return found


def _status(key: str, fleet: FleetView, policy: Policy, now: float) -> BreakerStatus:
    since = max(now - policy.breaker_window_seconds, fleet.resets.get(key, -math.inf))
    # Some cordons may be in the future, after a clock that was ahead was corrected. Ignoring them would allow as many again.
    counted = [e for e in fleet.cordons if since < e.at <= now + policy.breaker_window_seconds and key in keys_of(e)]
    most = _limit_of(key, fleet, policy)
    left = max(0, most - len(counted))
    if key in fleet.blocked and fleet.blocked[key] > fleet.resets.get(key, -math.inf):
        # Half open: one at a time, for whichever node asks first.
        last = max((e.at for e in counted), default=-math.inf)
        left = min(left, 1) if now - last >= policy.breaker_half_open_seconds else 0
    return BreakerStatus(key, most, len(counted), left == 0, left)


def _limit_of(key: str, fleet: FleetView, policy: Policy) -> int:
    scope, _, name = key.partition("/")
    if scope == "pool":
        pool = fleet.pools.get(name)
        return limit(pool.nodes if pool else 0, policy)
    if scope == "rack":
        return limit(fleet.racks.get(name, 0), policy)
    return limit(sum(p.nodes for p in fleet.pools.values()), policy, policy.check_share)
