"""Tables and JSON of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lehr.infra.controller.node_commands import Happening, NodeInfo
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import to_data
from lehr.infra.fleet.views import Signal

STYLES = {
    "healthy": "green",
    "suspect": "yellow",
    "burn-in": "cyan",
    "revalidating": "cyan",
    "quarantined": "red",
    "repair": "bold red",
    "lemon": "bold red",
    "held": "magenta",
    "unmanaged": "dim",
}


def as_data(node: NodeInfo) -> dict[str, Any]:
    """A node as JSON: stable keys, times in Unix seconds."""
    cached = node.cached
    return {
        "node": cached.key,
        "state": node.state,
        "pool": cached.labels.get(NAMES.pool_label, "default"),
        "rack": cached.labels.get(NAMES.rack_label, ""),
        "ready": cached.ready,
        "unschedulable": cached.unschedulable,
        "gpus": cached.gpus,
        "reason": node.reason,
        "by": node.by,
        "since": node.since,
        "hold": to_data(node.hold) if node.hold is not None else None,
        "record": to_data(cached.record) if cached.record is not None else None,
    }


def age(seconds: float) -> str:
    """One number and one unit, as kubectl has it."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def node_table(nodes: Sequence[NodeInfo], now: float) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NODE", "STATE", "POOL", "GPUS", "READY", "FOR", "BY", "REASON"):
        table.add_column(name, justify="right" if name in ("GPUS", "FOR") else "left", overflow="fold")
    for node in nodes:
        quiet = node.state in ("healthy", "unmanaged")
        table.add_row(
            node.cached.key,
            Text(node.state, STYLES.get(node.state, "")),
            node.cached.labels.get(NAMES.pool_label, "default"),
            str(node.cached.gpus),
            "yes" if node.cached.ready else Text("no", "red"),
            age(now - node.since) if node.since and not quiet else "",
            "" if quiet else node.by,
            "" if quiet else node.reason,
        )
    tally = Counter(node.state for node in nodes)
    total = ", ".join(f"{number} {state}" for state, number in sorted(tally.items(), key=lambda t: -t[1]))
    return Group(table, Text(f"\n{len(nodes)} nodes" + (f": {total}" if total else ""), "dim"))


def detail_table(node: NodeInfo, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    cached, record, cordon = node.cached, node.cached.record, node.cordon
    rows: list[tuple[str, str]] = [
        ("node", cached.key),
        ("state", node.state + (f" for {age(now - node.since)}" if node.since else "")),
        (
            "pool, rack",
            ", ".join(v for v in (cached.labels.get(NAMES.pool_label, "default"), cached.labels.get(NAMES.rack_label)) if v),
        ),
        ("ready", f"{'yes' if cached.ready else 'no'}, since {clock(cached.ready_since)}"),
        ("GPUs", str(cached.gpus)),
        ("schedulable", "no" if cached.unschedulable else "yes"),
    ]
    if node.hold is not None:
        end = f", until {clock(node.hold.until)}" if node.hold.until else ""
        rows.append(("held by", f"{node.hold.by}, {clock(node.hold.at)}{end}: {node.hold.reason}"))
    if cordon is not None:
        check = f" (check {cordon.check}, version {cordon.check_version})" if cordon.check_version else ""
        rows.append(("cordoned", f"{clock(cordon.at)} by {cordon.source}: {cordon.reason}{check}"))
        rows += [("evidence", f"{cordon.detail} ({cordon.evidence})".strip())] if cordon.evidence else []
        run: dict[str, Any] = {"run": cordon.run, "execution": cordon.execution, "rank": cordon.rank, "step": cordon.step}
        run |= {"last checkpoint": cordon.checkpoint_step, "GPU-hours lost": cordon.gpu_hours_lost}
        rows += [(name, str(value)) for name, value in run.items() if value not in ("", None)]
    if record is not None:
        tests = f"{len(record.passes)} passed in a row, {record.failures} failed, {record.inconclusive} without answer"
        rows += [("tests", tests)] if record.passes or record.failures or record.inconclusive or cordon is not None else []
        rows += [("clean since", clock(record.passes[0]))] if record.passes else []
        pairs = [f"{'passed' if t.passed else 'failed'} with {t.partner}" for t in record.pair_tests]
        pairs += [f"runs with {record.pairing.partner}"] if record.pairing is not None else []
        rows += [("pair tests", ", ".join(pairs))] if pairs else []
        rows += [("next test", clock(record.next_attempt_at))] if record.next_attempt_at > now else []
        rows += [("signal", _signal(s)) for s in record.signals]
        rows += [("blocked by", ", ".join(record.blocked.keys))] if record.blocked is not None else []
        rows += [("overridden by", f"{record.override.by}: {record.override.reason}")] if record.override is not None else []
        rows += [("quarantines", str(len(record.quarantines)))] if record.quarantines else []
    rows += [("condition", f"{c.type} {c.reason} since {clock(c.since)}") for c in cached.conditions]
    for name, value in rows:
        table.add_row(Text(name, "bold"), Text(value, STYLES.get(node.state, "") if name == "state" else ""))
    return table


def _signal(signal: Signal) -> str:
    told = f", {signal.by}: {signal.detail}" if signal.detail else ""
    return f"{clock(signal.at)} {signal.source} {signal.outcome.value} {signal.reason}".rstrip() + told


def history_table(lines: Sequence[Happening]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("TIME", "WHAT", "BY", "WHY"):
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(clock(line.at), line.what, line.by, line.why)
    return table
