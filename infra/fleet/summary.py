"""FleetView from all NodeViews: what breakers, caps and reporters' weights need, in one pass over the nodes.

A node's record is in an annotation that anybody in control of the node can write. So it may only affect that node: of its
cordons only the newest counts, as its own; a single node's refusal keeps no breaker open; and it has one vote on each reporter,
only about a report that exists.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lehr.infra.fleet.actions import Action, Cordon, SetState
from lehr.infra.fleet.breaker import keys_of
from lehr.infra.fleet.fleet_view import FleetView, PoolView, ReporterScore
from lehr.infra.fleet.pair_test import link_views
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.views import CORDONED_STATES, Blocked, CordonEvent, NodeRecord, NodeState, NodeView

MIN_REFUSED = 2  # waiting nodes from which a breaker stays half open


def fleet_view(nodes: Iterable[NodeView], policy: Policy, now: float, resets: Mapping[str, float] | None = None) -> FleetView:
    """Summary of all managed nodes at `now`. `resets`: breaker key -> Unix time at which a person closed it."""
    size: Counter[str] = Counter()
    cordoned: Counter[str] = Counter()
    racks: Counter[str] = Counter()
    scores: dict[str, Counter[bool]] = {}
    cordons: list[CordonEvent] = []
    refused: defaultdict[str, list[float]] = defaultdict(list)
    nodes = list(nodes)
    for node in nodes:
        if not node.managed:
            continue
        size[node.pool] += 1
        racks[node.rack] += bool(node.rack)
        if node.record is None:
            continue
        cordoned[node.pool] += _cordoned_for_fault(node)
        cordons += _own_cordon(node, node.record, policy, now)
        for key in _own_refusal(node, node.record):
            refused[key].append(min(node.record.blocked.at, now) if node.record.blocked is not None else now)
        for by, confirmed in _verified(node, node.record).items():
            scores.setdefault(by, Counter())[confirmed] += 1
    return FleetView(
        pools={name: PoolView(count, cordoned[name]) for name, count in size.items()},
        racks={name: count for name, count in racks.items() if name},
        cordons=tuple(sorted(cordons, key=lambda e: (e.at, e.node))),
        blocked={key: max(times) for key, times in refused.items() if len(times) >= MIN_REFUSED},
        # A reset dated far in the future would keep its breaker closed until then.
        resets={key: at for key, at in (resets or {}).items() if at <= now + policy.breaker_window_seconds},
        reporters={by: ReporterScore(c[True], c[False]) for by, c in scores.items()},
        links=link_views(nodes, policy, now),
    )


def _own_cordon(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> list[CordonEvent]:
    """The node's newest cordon that breakers count. Its time may be in the future, after a fast clock was corrected."""
    since = now - max(policy.breaker_window_seconds, policy.breaker_half_open_seconds)
    known = [e for e in record.quarantines if e.node == node.name and since < e.at <= now + policy.breaker_window_seconds]
    return [replace(max(known, key=lambda e: e.at), pool=node.pool, rack=node.rack)] if known else []


def _own_refusal(node: NodeView, record: NodeRecord) -> set[str]:
    """The breakers that can have refused this node and for which it still waits."""
    if record.blocked is None or record.cordon is not None or node.unschedulable or record.state is not NodeState.SUSPECT:
        return set()
    own = {key for s in record.signals for key in keys_of(CordonEvent("", node.pool, node.rack, s.check, s.check_version, 0.0))}
    return {*own, f"cap/{node.pool}"} & set(record.blocked.keys)


def _verified(node: NodeView, record: NodeRecord) -> dict[str, bool]:
    """The node's vote on each reporter: whether the last of that reporter's still existing reports was right."""
    made = {(f"report/{report.id}", report.by) for report in node.reports}
    return {d.by: d.confirmed for d in sorted(record.dispositions, key=lambda d: d.at) if (d.report, d.by) in made}


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
