"""When alerts about the store, the controller and its nodes fire, and when they stay silent."""

from __future__ import annotations

from collections.abc import Mapping

from tests.helm.promtool import Case, Labels, series

A_RUN: Labels = {"namespace": "t", "run": "a"}
C1, C2 = 'instance="c1:9404",pod="c1"', 'instance="c2:9404",pod="c2"'


def requests(run: str, ok: float, failed: float, outcome: str = "failed") -> dict[str, str]:
    """Requests a minute."""
    made = {"ok": ok, **({outcome: failed} if failed else {})}
    name = "lehr_store_requests_total"
    return {series(name, run, f"p{run}", operation="get", outcome=key): f"0+{value:g}x60" for key, value in made.items()}


STORE = [
    Case(
        "LehrStoreErrors",
        "12 %, the other 8 %, a third none",
        requests("a", 26.4, 3.6) | requests("b", 27.6, 2.4) | requests("c", 30, 0),
        {"5m": [], "6m": [A_RUN], "60m": [A_RUN]},
    ),
    Case("LehrStoreErrors", "none gets there", requests("a", 6, 54, "unreachable"), {"10m": [A_RUN]}),
    Case("LehrStoreErrors", "asked for what is not there", requests("a", 30, 30, "refused"), {"10m": [], "60m": []}),
    Case(
        "LehrStoreDown",
        "three runs",
        requests("a", 24, 36) | requests("b", 24, 36) | requests("c", 24, 36) | requests("d", 60, 0),
        {"2m": [], "4m": [{}]},
    ),
    Case("LehrStoreDown", "two runs", requests("a", 24, 36) | requests("b", 24, 36) | requests("c", 60, 0), {"30m": []}),
    Case("LehrStoreDown", "now and then", requests("a", 36, 24) | requests("b", 36, 24) | requests("c", 36, 24), {"30m": []}),
]
CONTROLLER = [
    Case("LehrControllerDown", "both are gone", {f"lehr_fleet_leader{{{C1}}}": "1x5 stale"}, {"10m": [], "11m": [{}]}),
    Case("LehrControllerDown", "an idle fleet", {f"lehr_fleet_leader{{{C1}}}": "1x60"}, {"10m": [], "60m": []}),
    Case(
        "LehrNoLeader",
        "none leads",
        {f"lehr_fleet_leader{{{C1}}}": "1x5 0x60", f"lehr_fleet_leader{{{C2}}}": "0x60"},
        {"10m": [], "11m": [{}]},
    ),
    Case(
        "LehrNoLeader",
        "the other takes over",
        {f"lehr_fleet_leader{{{C1}}}": "1x5 0x60", f"lehr_fleet_leader{{{C2}}}": "0x7 1x60"},
        {"8m": [], "13m": [], "60m": []},
    ),
    Case(
        "LehrControllerDecidesNothing",
        "it leads only",
        {f"lehr_fleet_leader{{{C1}}}": "1x60", f"lehr_fleet_reconcile_timestamp_seconds{{{C1}}}": "0x60"},
        {"15m": [], "16m": [{}]},
    ),
    Case(
        "LehrControllerDecidesNothing",
        "the one that follows has no rounds",
        {
            f"lehr_fleet_leader{{{C1}}}": "1x60",
            f"lehr_fleet_leader{{{C2}}}": "0x60",
            f"lehr_fleet_reconcile_timestamp_seconds{{{C1}}}": "0+60x60",
            f"lehr_fleet_reconcile_timestamp_seconds{{{C2}}}": "0x60",
        },
        {"16m": [], "60m": []},
    ),
    Case(
        "LehrControllerDecidesNothing",
        "nobody leads, which is another alert",
        {f"lehr_fleet_leader{{{C1}}}": "0x60", f"lehr_fleet_reconcile_timestamp_seconds{{{C1}}}": "0x60"},
        {"16m": [], "60m": []},
    ),
]


def since(state: str, values: str, node: str = "n1", at: str = C1) -> dict[str, str]:
    return {f'lehr_fleet_node_state_timestamp_seconds{{{at},node="{node}",state="{state}"}}': values}


def breaker(key: str, values: str) -> dict[str, str]:
    return {f'lehr_fleet_breaker_open{{{C1},breaker="{key}"}}': values}


QUARANTINED: Labels = {"node": "n1", "state": "quarantined"}
NODES = [
    Case(
        "LehrBreakerOpen",
        "one of two",
        breaker("pool/a", "0x5 1x5 0x60") | breaker("pool/b", "0x60"),
        {"7m": [], "8m": [{"breaker": "pool/a"}], "14m": [{"breaker": "pool/a"}], "20m": []},
    ),
    Case("LehrBreakerOpen", "for a moment", breaker("pool/a", "0x5 1x1 0x60"), {"7m": [], "9m": []}),
    Case(
        "LehrQuarantineLong",
        "since a day; another one since an hour",
        since("quarantined", "-85800x60") | since("quarantined", "-3600x60", "n2"),
        {"20m": [], "21m": [QUARANTINED]},
    ),
    Case(
        "LehrQuarantineLong",
        "the leader changes meanwhile",
        since("repair", "-90000x60 stale") | since("repair", "_x62 -90000x60", at=C2),
        {"60m": [{"node": "n1", "state": "repair"}], "80m": [{"node": "n1", "state": "repair"}]},
    ),
    Case("LehrQuarantineLong", "a long burn-in", since("burn-in", "-990000x60"), {"21m": [], "60m": []}),
    Case("LehrQuarantineLong", "it returned", since("quarantined", "-85800x15 stale"), {"21m": [], "60m": []}),
]


def cordoned(title: str, counts: Mapping[str, tuple[str, str]], fires: Mapping[str, list[Labels]]) -> Case:
    """Cordons and false ones, by source."""
    made = {}
    for source, (cordons, false) in counts.items():
        made[f'lehr_fleet_cordons_total{{{C1},source="{source}",reason="matmul"}}'] = cordons
        made[f'lehr_fleet_false_cordons_total{{{C1},source="{source}"}}'] = false
    return Case("LehrFalseCordons", title, made, fires, every="30m", evaluated="30m")


PREFLIGHT: Labels = {"source": "preflight"}
FALSE = [
    cordoned(
        "a quarter; of another source a sixth",
        {"preflight": ("8x20", "2x20"), "condition": ("6x20", "1x20")},
        {"30m": [], "90m": [PREFLIGHT]},
    ),
    cordoned("of five", {"preflight": ("5x20", "2x20")}, {"90m": [PREFLIGHT]}),
    cordoned("of four", {"preflight": ("4x20", "2x20")}, {"90m": [], "5h": []}),
    cordoned("more than a week ago", {"preflight": ("8x400", "2x400")}, {"6d": [PREFLIGHT], "8d": []}),
]


def fleet(spares: str, pool: str = "h", **states: str) -> dict[str, str]:
    nodes = {f'lehr_fleet_nodes{{{C1},pool="{pool}",state="{state}"}}': values for state, values in states.items()}
    return nodes | {f'lehr_fleet_spare_nodes{{{C1},pool="{pool}"}}': spares}


SPARES = [
    Case(
        "LehrSparesLow",
        "none is free and one is away; in the other pool one is free",
        fleet("0x60", healthy="9x60", quarantined="1x60") | fleet("1x60", "g", healthy="9x60", quarantined="1x60"),
        {"29m": [], "30m": [{"pool": "h"}]},
    ),
    Case("LehrSparesLow", "a full fleet, all well", fleet("0x60", healthy="9x60"), {"30m": [], "60m": []}),
    Case("LehrSparesLow", "an idle fleet", fleet("9x60", healthy="9x60"), {"30m": [], "60m": []}),
]


def seen(expected: str, run: str, **pods: str) -> dict[str, str]:
    found = {series("lehr_pod_info", run, pod, node="n", first_rank="0"): values for pod, values in pods.items()}
    return found | {f'lehr_fleet_run_pods{{{C1},run="{run}"}}': expected}


MISSING: list[Labels] = [{"run": "a"}]
EXPORTERS = [
    Case(
        "LehrExporterMissing",
        "one of two",
        seen("2x60", "a", p="1x60") | seen("1x60", "b", q="1x60"),
        {"9m": [], "10m": MISSING},
    ),
    Case("LehrExporterMissing", "all of them", seen("2x60", "a"), {"9m": [], "10m": MISSING}),
    Case("LehrExporterMissing", "a pod is replaced", seen("1x60", "a", p="1x10 stale", p2="_x16 1x60"), {"15m": [], "25m": []}),
    Case(
        "LehrExporterMissing",
        "twice scraped is one",
        seen("2x60", "a", p="1x60") | {series("lehr_pod_info", "a", "p", node="n", first_rank="0", job="other"): "1x60"},
        {"10m": MISSING},
    ),
    Case("LehrExporterMissing", "the run has ended", seen("1x10 stale", "a", p="1x10 stale"), {"30m": []}),
]
CASES = [*STORE, *CONTROLLER, *NODES, *FALSE, *SPARES, *EXPORTERS]
