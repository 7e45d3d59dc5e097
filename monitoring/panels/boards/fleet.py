"""Fleet health: how many nodes work, why others do not, and whether whoever decides about them can be trusted."""

from __future__ import annotations

from lehr.monitoring.metrics import Fleet as f
from lehr.monitoring.metrics import recorded as r
from lehr.monitoring.panels.boards.common import CORDONS, PLACES, SECONDS_PER_HOUR, at, stat
from lehr.monitoring.panels.boards.fleet_controller import CONTROLLER
from lehr.monitoring.panels.forms import age, counted, highest, increase, now, ratio, times, total
from lehr.monitoring.panels.panel import Board, Panel, Row, Series, Variable
from lehr.monitoring.panels.query import Last, Quantile

POOL = Variable("pool", f.NODES, "Pool")
NODE = Variable("node", f.NODE_STATE, "Node")

WORKING = stat(
    "Working",
    (
        "Share of the managed nodes that are healthy.",
        "0.97 and more.",
        "the table of nodes below says why others are not.",
    ),
    "percentunit",
    Series(ratio(total(Last(f.NODES, {"state": "healthy"})), total(Last(f.NODES))), "of the nodes"),
    at((0.9, "watch"), (0.97, "good")),
    "bad",
)
NODES_NOW = stat(
    "Nodes",
    ("Nodes that the controller manages.", "all that you pay for.", "nodes without the pool's label are not managed."),
    "short",
    Series(total(Last(f.NODES)), "managed"),
)
BREAKERS = stat(
    "Breakers open",
    (
        "Breakers that refuse further cordons now.",
        "0.",
        "runbook LehrBreakerOpen: rather one check is wrong than many nodes.",
    ),
    "short",
    Series(total(highest(Last(f.BREAKER_OPEN), "breaker")), "open"),
    at((1, "bad")),
    "good",
)
FALSE_NOW = stat(
    "False cordons",
    (
        "Nodes that proved good after a quarantine, since the controller began.",
        "few against cordons.",
        "runbook LehrFalseCordons.",
    ),
    "short",
    Series(counted(f.FALSE_CORDONS), "false"),
    at((5, "watch"), (20, "bad")),
    "good",
)
LOST_NOW = stat(
    "GPU-hours lost",
    (
        "Work undone by faults of nodes, since the controller began.",
        "below 2 % of all GPU-hours.",
        "save more often; more spares.",
    ),
    "GPU-hours",
    Series(times(counted(f.GPU_SECONDS_LOST), 1 / SECONDS_PER_HOUR), "lost"),
)
LEADER = stat(
    "Leader",
    ("Replicas of the controller that act: exactly one.", "1.", "runbooks LehrNoLeader and LehrControllerDown."),
    "short",
    Series(total(Last(f.LEADER)), "acting"),
    at((1, "good"), (2, "bad")),
    "bad",
)

STATES = Panel(
    "Nodes by state",
    "Managed nodes by state, pool by pool; held: cordoned by a person.",
    "nearly all healthy.",
    "a step of many nodes at once: power, network, or a check that is wrong (Breakers).",
    "short",
    (Series(total(Last(f.NODES), "pool", "state"), "{pool}: {state}"),),
    width=12,
    height=9,
    stacked=True,
    axis="zero",
)
TABLE = Panel(
    "Nodes that are not healthy",
    "Each with its state, and for how long it has been in it; one that a person holds has no time.",
    "empty, or a few that change.",
    "`lehr nodes show NODE` says why; days in one state: runbook LehrQuarantineLong.",
    "",
    (Series(now(f.NODE_STATE), "in it"), Series(age(f.NODE_SINCE), "for", "s")),
    "table",
    width=12,
    height=9,
    decimals=0,
)
CAUSES = Panel(
    "Cordons, by cause",
    "Nodes taken out of service since the controller began, by who said so and why.",
    "single ones, of many causes.",
    "one cause for many nodes: look at that check before you look at the nodes.",
    "short",
    (Series(counted(f.CORDONS, "source", "reason"), "{source}: {reason}"),),
    "bars",
    decimals=0,
)
COMING = Panel(
    "Out and back",
    "Cordons, returns by whom, repairs and refused cordons in each hour.",
    "returns follow cordons within a day.",
    "refused: runbook LehrBreakerOpen; no returns: runbook LehrQuarantineLong.",
    "short",
    (
        Series(increase(f.CORDONS, "source", window="1h"), "cordoned: {source}"),
        Series(increase(f.UNCORDONS, "source", window="1h"), "returned: {source}"),
        Series(increase(f.REPAIRS, "state", window="1h"), "flagged: {state}"),
        Series(increase(f.BLOCKED, window="1h"), "refused"),
    ),
    axis="zero",
)
FALSE = Panel(
    "False cordons, by cause",
    "Nodes that proved good after a quarantine, by who had them cordoned.",
    "below one in ten cordons.",
    "runbook LehrFalseCordons: raise that check's threshold.",
    "short",
    (Series(counted(f.FALSE_CORDONS, "source"), "{source}"),),
    "bars",
    thresholds=at((10, "bad")),
    decimals=0,
)
SPARES = Panel(
    "Spare nodes",
    "Healthy nodes in service whose GPUs no pod of training holds, by pool.",
    "one for each hundred nodes or more.",
    "runbook LehrSparesLow.",
    "short",
    (Series(total(Last(f.SPARES), "pool"), "{pool}"),),
    axis="zero",
    thresholds=at((1, "watch"), (2, "good")),
    base="bad",
)
PREFLIGHT = Panel(
    "Time of a preflight",
    "From a pod's first preflight container to its last one's end, by the verdict: the median, and 99 in 100.",
    "below two minutes.",
    "an image that is pulled each time, or a slow probe: `lehr nodes show` has each one's time.",
    "s",
    (
        Series(Quantile(0.5, f.PREFLIGHT, ("outcome",), "1h"), "{outcome}: median"),
        Series(Quantile(0.99, f.PREFLIGHT, ("outcome",), "1h"), "{outcome}: 99 %"),
    ),
    axis="zero",
    thresholds=at((120, "watch"), (600, "bad")),
    base="good",
)
PODS = Panel(
    "Pods of runs",
    "Pods of each run that serve metrics now.",
    "as many as the run has nodes.",
    "a run has too few: runbook LehrExporterMissing.",
    "short",
    (Series(highest(Last(f.RUN_PODS), "run"), "{run}"),),
    axis="zero",
)
BUDGET = Panel(
    "Cordons that breakers still allow",
    "What is left of each breaker's budget; 0: it is open.",
    "above 0.",
    "runbook LehrBreakerOpen.",
    "short",
    (Series(highest(Last(f.BREAKER_BUDGET), "breaker"), "{breaker}"),),
    axis="zero",
    thresholds=at((1, "good")),
    base="bad",
)
REACTION = Panel(
    "Reaction",
    "From a verdict to its cordon, and from a cordon to the deletion of its pod: 99 in 100 are as fast or faster.",
    "below a second; a few while the API server is busy.",
    "row Controller: errors and the time of a round.",
    "s",
    (
        Series(Quantile(0.99, f.VERDICT_TO_CORDON, (), "1h"), "verdict to cordon"),
        Series(Quantile(0.99, f.CORDON_TO_DELETION, (), "1h"), "cordon to deletion"),
    ),
    axis="zero",
    thresholds=at((5, "watch"), (60, "bad")),
    base="good",
)
QUARANTINE = Panel(
    "Time in quarantine",
    "How long nodes were away that came back: the median, and 9 in 10, of the time shown.",
    "below four hours.",
    "runbook LehrQuarantineLong: tests that do not start, or nobody who repairs.",
    "s",
    (
        Series(Quantile(0.5, f.QUARANTINE, (), "24h"), "median"),
        Series(Quantile(0.9, f.QUARANTINE, (), "24h"), "90 %"),
    ),
    axis="zero",
    thresholds=at((14400, "watch"), (86400, "bad")),
    base="good",
)
TESTS = Panel(
    "Tests of nodes",
    "Test Jobs started, by suite, and how they ended, since the controller began.",
    "most that start pass.",
    "they time out: no room for them, or their image is missing.",
    "short",
    (
        Series(counted(f.REVALIDATIONS, "suite"), "started: {suite}"),
        Series(counted(f.REVALIDATION_RESULTS, "outcome"), "{outcome}"),
    ),
    "bars",
    decimals=0,
)
REPORTS = Panel(
    "Reports and deletions",
    "People's reports of bad nodes that tests settled, and pods taken off bad nodes, since the controller began.",
    "more reports confirmed than refuted.",
    "refuted ones of one team: their fault is in the job.",
    "short",
    (
        Series(counted(f.REPORTS, "disposition"), "report {disposition}"),
        Series(counted(f.POD_DELETIONS, "outcome"), "pod {outcome}"),
    ),
    "bars",
    decimals=0,
)
POWER = Panel(
    "Power of GPUs",
    "Sum over each node's GPUs.",
    "near the boards' limit while training.",
    "one node lower than its neighbours: throttled, or idle.",
    "watt",
    (Series(total(Last(r.NODE_POWER), "node"), "{node}"),),
    axis="zero",
)
HEAT = Panel(
    "Temperature of GPUs",
    "The hottest GPU of each node.",
    "below 80 degrees.",
    "above 85 it throttles: airflow, neighbours, paste; cordon it with `lehr nodes cordon`.",
    "celsius",
    (Series(highest(Last(r.NODE_TEMPERATURE), "node"), "{node}"),),
    thresholds=at((80, "watch"), (87, "bad")),
    base="good",
)
XID = Panel(
    "XID errors",
    "Code of the last XID error of each GPU that has one.",
    "empty, or codes of programs (13, 31, 43, 45).",
    "48, 63, 64, 74, 79, 94, 95: hardware; the controller cordons for them where its node agent runs.",
    "",
    (Series(now(r.GPU_XID), "{node} GPU {gpu}"),),
    "table",
    decimals=0,
    thresholds=at((1, "watch")),
)

FLEET = Board(
    "lehr-fleet",
    "Lehr / Fleet health",
    "How many nodes work, and who decides about the others?",
    (POOL, NODE),
    (
        Row("Working, and decided well", (WORKING, NODES_NOW, BREAKERS, FALSE_NOW, LOST_NOW, LEADER)),
        Row("Nodes", (STATES, TABLE, CAUSES, COMING, FALSE, REACTION, QUARANTINE, BUDGET, SPARES)),
        Row("Tests and runs", (PREFLIGHT, PODS, TESTS, REPORTS)),
        Row("Controller", CONTROLLER),
        Row("GPUs, by dcgm-exporter", (POWER, HEAT, XID)),
    ),
    (CORDONS,),
    PLACES,
    (
        "LehrControllerDown", "LehrNoLeader", "LehrBreakerOpen", "LehrQuarantineLong", "LehrFalseCordons", "LehrSparesLow",
        "LehrExporterMissing",
    ),
    hours=24.0,
)  # fmt: skip
