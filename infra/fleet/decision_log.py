"""The controller's log of decisions, one JSON line each, and its replay against another policy.

A line holds everything that `decide` saw, so that a policy can be tried on last month's log before it is rolled out. The replay
is open-loop: later views still show the effects of the recorded policy. So for each node only the decisions up to the first
difference are predictions; those after it are counted separately.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lehr.infra.fleet.actions import Action
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.serialization import from_data, to_data
from lehr.infra.fleet.views import NodeView
from lehr.runtime.errors import UserError, from_os_error


@dataclass(frozen=True)
class Entry:
    """One call of `decide` and its result."""

    now: float
    node: NodeView
    fleet: FleetView
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Difference:
    """The first decision on a node that differs under the other policy. Actions by kind."""

    now: float
    node: str
    recorded: tuple[str, ...]
    replayed: tuple[str, ...]


@dataclass
class Replay:
    entries: int = 0
    seconds: float = 0.0
    nodes: set[str] = field(default_factory=set)
    recorded: Counter[str] = field(default_factory=Counter)
    replayed: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    after_difference: int = 0  # decisions whose view was already affected by the recorded policy


def line(now: float, node: NodeView, fleet: FleetView, actions: Sequence[Action]) -> str:
    """One line of the log, without the newline. Calls that return no action may be left out."""
    data = {"v": 1, "now": now, "node": to_data(node), "fleet": to_data(fleet), "actions": to_data(list(actions))}
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def read(path: Path) -> Iterator[Entry]:
    """The entries of a log. Raises UserError with file and line; a truncated last line is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError("there is no such log", where=path, remedy="check the path") from error
    except OSError as error:
        raise from_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise UserError("not a text file", where=path, remedy="give the controller's decision log") from error
    lines = text.split("\n")
    for number, raw in enumerate(lines, 1):
        if raw.strip():
            try:
                yield _entry(raw)
            except ValueError as error:
                if number == len(lines):  # without a newline: the controller was stopped while it wrote the line
                    return
                raise UserError(str(error), where=f"{path}:{number}", remedy="give the controller's decision log") from error


def _entry(raw: str) -> Entry:
    try:
        data = json.loads(raw)
    except RecursionError as error:
        raise ValueError("nested too deeply for a decision log") from error
    if not isinstance(data, dict) or data.get("v") != 1:
        raise ValueError("not a line of a decision log of version 1")
    found: Entry = from_data(Entry, {key: data.get(key) for key in ("now", "node", "fleet", "actions")})
    return found


def replay(entries: Iterable[Entry], policy: Policy) -> Replay:
    """Decide every entry anew with `policy` and compare."""
    result = Replay()
    first = last = None
    diverged: set[str] = set()
    for entry in entries:
        first, last = (entry.now if first is None else first), entry.now
        result.entries += 1
        result.nodes.add(entry.node.name)
        again = decide(entry.node, entry.fleet, policy, entry.now)
        was, would = _kinds(entry.actions), _kinds(again)
        if entry.node.name in diverged:
            result.after_difference += 1
            continue
        result.recorded.update(was)
        result.replayed.update(would)
        if was != would:
            diverged.add(entry.node.name)
            result.differences.append(Difference(entry.now, entry.node.name, was, would))
    result.seconds = (last or 0.0) - (first or 0.0)
    return result


def _kinds(actions: Iterable[Action]) -> tuple[str, ...]:
    return tuple(action.kind for action in actions)
