"""FleetView from all NodeViews: what breakers, caps and reporter weights need to know, in one pass over the nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from infra.actions import Action, Cordon, SetState
from infra.fleet_view import FleetView, PoolView, ReporterScore
from infra.pairing import link_views
from infra.policy import Policy
from infra.views import CORDONED_STATES, Blocked, CordonEvent, NodeState, NodeView


def fleet_view(nodes: Iterable[NodeView], policy: Policy, now: float, resets: Mapping[str, float] | None = None) -> FleetView:
    """Summary of all managed nodes at `now`. `resets`: breaker key -> Unix time at which a person closed it."""
    size: Counter[str] = Counter()
    cordoned: Counter[str] = Counter()
    racks: Counter[str] = Counter()
    scores: dict[str, Counter[bool]] = {}
    cordons: list[CordonEvent] = []
    blocked: dict[str, float] = {}
    nodes = list(nodes)
    horizon = max(policy.breaker_window_seconds, policy.breaker_half_open_seconds)
    for node in nodes:
        if not node.managed:
            continue
        size[node.pool] += 1
        racks[node.rack] += bool(node.rack)
        if node.record is None:
            continue
        cordoned[node.pool] += _cordoned_for_fault(node)
        cordons += [e for e in node.record.quarantines if e.at > now - horizon]
        if node.record.blocked is not None:
            _add_refusal(blocked, node.record.blocked)
        for report in node.record.dispositions:
            scores.setdefault(report.by, Counter())[report.confirmed] += 1
    return FleetView(
        pools={name: PoolView(count, cordoned[name]) for name, count in size.items()},
        racks={name: count for name, count in racks.items() if name},
        cordons=tuple(sorted(cordons, key=lambda e: (e.at, e.node))),
        blocked=blocked,
        resets=dict(resets or {}),
        reporters={by: ReporterScore(c[True], c[False]) for by, c in scores.items()},
        links=link_views(nodes, policy, now),
    )


def _cordoned_for_fault(node: NodeView) -> bool:
    record = node.record
    if record is None or record.cordon is None or record.cordon.source == "burn-in":
        return False
    return record.state in CORDONED_STATES and record.state is not NodeState.BURN_IN


def fleet_after(fleet: FleetView, node: NodeView, actions: Iterable[Action]) -> FleetView:
    """`fleet` with the cordons and refusals just decided for `node`, for the next `decide` of the same round."""
    for action in actions:
        if isinstance(action, Cordon) and action.cordon.source != "burn-in":
            pool = fleet.pools.get(node.pool, PoolView(1))
            last = action.record.quarantines[-1:]
            fleet = replace(
                fleet,
                cordons=fleet.cordons + last,
                pools={**fleet.pools, node.pool: replace(pool, cordoned=pool.cordoned + 1)},
            )
        elif isinstance(action, SetState) and action.record.blocked is not None:
            blocked = dict(fleet.blocked)
            _add_refusal(blocked, action.record.blocked)
            fleet = replace(fleet, blocked=blocked)
    return fleet


def _add_refusal(newest: dict[str, float], refusal: Blocked) -> None:
    for key in refusal.keys:
        newest[key] = max(newest.get(key, refusal.at), refusal.at)
