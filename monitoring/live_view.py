"""The content of the live display, apart from the terminal: the state of a run, and its rendering."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lehr.report import format as fmt
from lehr.runtime.metrics import metric, ordered

NOTES = 4


@dataclass
class Progress:
    """Progress of the current stage. Times are of a monotonic clock, in seconds."""

    stage: str
    total_steps: int
    started_at: float
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=200))  # (time, step) of the last reports
    skipped: int = 0

    def seconds_left(self, now: float) -> float | None:
        """At the pace of the last 200 reports; keeps counting down during a long step. None before the second report, and when
        a step takes longer than the pace allows for all remaining steps: then nothing is known, as during a last evaluation."""
        if len(self.recent) < 2 or not self.total_steps:
            return None
        (first_at, first_step), (last_at, last_step) = self.recent[0], self.recent[-1]
        if last_step <= first_step:
            return None
        pace = (last_at - first_at) / (last_step - first_step)
        left = (self.total_steps - last_step) * pace - (now - last_at)
        return left if left > 0.0 else None

    def shown_metrics(self) -> list[tuple[str, str]]:
        """(name, value) of the known metrics meant for the live display, in the order of their declarations."""
        shown = []
        for m in ordered(self.metrics):
            if m.live:
                value = self.metrics[m.name]
                shown.append((m.label, fmt.value(value, m) if m.label == m.unit else fmt.with_unit(value, m)))
        if self.skipped:
            shown.append(("skipped", str(self.skipped)))
        return shown


@dataclass
class RunState:
    """The stages in order with their outcomes, the current stage's progress, the last notes."""

    title: str
    stages: list[str]
    outcome: dict[str, tuple[str, float]] = field(default_factory=dict)  # stage -> ("made" or "reused", seconds)
    current: Progress | None = None
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=NOTES))
    headline: dict[str, str] = field(default_factory=dict)  # stage -> some of its scores

    def start(self, stage: str, total_steps: int, now: float) -> Progress:
        if stage not in self.stages:
            self.stages.append(stage)
        self.outcome.pop(stage, None)
        self.current = Progress(stage, total_steps, now)
        return self.current

    def advance(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float], now: float) -> Progress:
        current = self.current
        if current is None or current.stage != stage:
            current = self.start(stage, total_steps, now)
        current.step, current.total_steps = step, total_steps
        current.metrics.update(metrics)
        current.skipped += bool(metrics.get("skipped"))
        current.recent.append((now, step))
        return current

    def finish(self, stage: str, reused: bool, seconds: float) -> None:
        if stage not in self.stages:
            self.stages.append(stage)
        self.outcome[stage] = ("reused" if reused else "made", seconds)
        if self.current is not None and self.current.stage == stage:
            self.current = None

    def scored(self, stage: str, records: Sequence[Mapping[str, object]]) -> None:
        held_out = [r for r in records if r.get("split") == "held_out" and isinstance(r.get("value"), int | float)]
        if any(metric(str(r.get("metric"))).baseline_of for r in records):
            return  # scores of a baseline, with which the stage's own scores are compared
        shown = [(r["task"], fmt.with_unit(float(str(r["value"])), metric(str(r.get("metric"))))) for r in held_out[:3]]
        self.headline[stage] = "  ".join(f"{task} {value}" for task, value in shown)

    def add_note(self, text: str) -> None:
        self.notes.append(" ".join(text.split()))


def live_view(state: RunState, now: float, height: int = 50) -> RenderableType:
    """The list of stages, the current stage's bar and the last notes, in `height` lines."""
    parts: list[RenderableType] = []
    if state.title:
        parts.append(Text(state.title, style="bold"))
    parts.append(_stage_list(state, now, max(height - NOTES - 7, 5)))  # the bar has 2 lines, the last note up to 3
    if state.current is not None:
        parts.append(_current(state.current, now))
    *earlier, last = state.notes or [""]
    parts += [Text(f"  {note}", style="dim", overflow="ellipsis", no_wrap=True) for note in earlier]
    parts += [Padding(Text(last, style="dim"), (0, 0, 0, 2))] if last else []  # whole, in as many lines as it needs
    return Group(*parts)


def window(stages: Sequence[str], focus: int, room: int) -> tuple[int, int]:
    """First index and end (exclusive) of at most `room` stages around `focus`, more of them after it than before."""
    first = min(max(focus - room // 3, 0), max(len(stages) - room, 0))
    return first, min(first + room, len(stages))


def _stage_list(state: RunState, now: float, room: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis", ratio=1)  # what is left: scores are cut, not names
    busy = state.current.stage if state.current else None
    focus = next(
        (i for i, s in enumerate(state.stages) if s == busy or (not busy and s not in state.outcome)), len(state.stages)
    )
    first, last = window(state.stages, focus, room if len(state.stages) <= room else room - 2)
    if first:
        table.add_row("", Text(f"… {first} before", style="dim"))
    for stage in state.stages[first:last]:
        table.add_row(*_stage_row(state, stage, now))
    if last < len(state.stages):
        table.add_row("", Text(f"… {len(state.stages) - last} to come", style="dim"))
    return table


def _stage_row(state: RunState, stage: str, now: float) -> tuple[RenderableType, ...]:
    scores = state.headline.get(stage, "")
    if state.current is not None and state.current.stage == stage:
        elapsed = fmt.clock(now - state.current.started_at)
        return Text("▸", style="bold cyan"), Text(stage, style="bold cyan"), Text(elapsed, style="cyan"), scores
    if stage not in state.outcome:
        return Text("·", style="dim"), Text(stage, style="dim"), "", scores
    outcome, seconds = state.outcome[stage]
    if outcome == "reused":
        return Text("↺", style="blue"), stage, Text("reused", style="blue"), scores
    return Text("✓", style="green"), stage, fmt.duration(seconds), scores


def _current(p: Progress, now: float) -> RenderableType:
    if not p.total_steps:  # this stage counts no steps: a pulsing bar shows that it works
        return ProgressBar(total=None, pulse=True, width=28)
    left = p.seconds_left(now)
    bar = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        bar.add_column(no_wrap=True)
    bar.add_row(
        ProgressBar(total=p.total_steps, completed=p.step, width=28),
        f"step {p.step:,}/{p.total_steps:,}",
        Text(f"{fmt.clock(left)} left" if left is not None else "", style="cyan"),
    )
    facts = Text("  ", overflow="ellipsis", no_wrap=True)
    for name, value in p.shown_metrics():
        facts.append(f"{name} ", style="dim").append(f"{value}   ")
    return Group(bar, facts)
