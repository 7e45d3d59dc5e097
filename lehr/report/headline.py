"""The top of the page: what was trained, where and how, what a reader must know first of its scores, what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lehr.report import format as fmt
from lehr.report.data import ReportData
from lehr.report.scores import Column, ScoreTable
from lehr.report.verdicts import Change, Comparison, against, changes, tested
from lehr.runtime.metrics import ordered

_TILES = 6
_TUNED = ("sft", "dpo", "grpo", "ppo", "brain", "reward_model", "self_knowledge")  # which compute in fp32


@dataclass(frozen=True)
class Tile:
    """A score that is shown large: `aside` stands small beside it, `lines` below."""

    name: str
    figure: str
    aside: str
    lines: list[str]


@dataclass(frozen=True)
class Headline:
    """What stands above the contents. `tested`: how many of the `changes` of scores p is adjusted for."""

    trained: str
    computed: str
    against: list[Comparison]
    tiles: list[Tile]
    energy: str
    changes: list[Change]
    tested: int

    @property
    def worse(self) -> list[Change]:
        """The surest first."""
        return sorted((c for c in self.changes if c.is_worse), key=lambda c: c.difference.p_value or 0.0)


def headline(data: ReportData) -> Headline:
    """What was trained and where, the scores to know first, and what got worse on the way."""
    table = data.table("held_out")
    tiles = [_score_tile(column, table) for column in headline_columns(data)]
    found = changes(data)
    return Headline(_sentence(data), _where(data), against(data), tiles, measured(data), found, tested(found))


def _sentence(data: ReportData) -> str:
    parts = []
    if data.totals.parameters:
        parts.append(f"A language model of {fmt.count(data.totals.parameters)} parameters")
    else:
        parts.append("A language model")
    trained = [s for s in data.stages if s.tokens]
    if trained:
        stages = f"{len(trained)} stage{'s' if len(trained) != 1 else ''}"
        parts.append(f"trained{' from scratch' if data.from_scratch else ''} on {fmt.count(data.tokens)} tokens in {stages}")
    return ", ".join(parts) + "."


def _where(data: ReportData) -> str:
    """Precision, layout and machine: the same recipe has other numbers under others."""
    found = [s for s in data.stages if s.phase == "pretraining" and s.params.get("precision")]
    numbers = " and ".join(dict.fromkeys(str(s.params["precision"]) for s in found))
    after = ", later stages in fp32" if numbers not in ("", "fp32") and data.made_by(*_TUNED) else ""
    layouts = [s.params["parallel"] for s in data.stages if isinstance(s.params.get("parallel"), dict)]
    laid_out = " or ".join(dict.fromkeys(map(_layout, layouts)))
    env = data.environment
    cores = f"{env.cores} core{'s' if env.cores != 1 else ''}" if env.cores else ""
    machine = " of ".join(p for p in (cores, env.cpu) if p)
    parts = [f"Computed in {numbers}{after}"] if numbers else []
    parts += [f"by {laid_out}"] if laid_out else []
    parts += [f"on {machine}"] if machine else []
    parts += [f"with PyTorch {env.torch}"] if env.torch else []
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else "Precision, layout and machine are not recorded."


def _layout(p: dict[str, Any]) -> str:
    """`2 processes of 1 thread (flat)`."""
    processes, threads = p.get("processes", 1), p.get("threads", 1)
    sizes = "".join(f", {name} {p[name]}" for name in ("replicas", "tensor", "pipeline") if p.get(name, 1) != 1)
    each = f" of {threads} thread{'s' if threads != 1 else ''}"
    return f"{processes} process{'es' if processes != 1 else ''}{each} ({p.get('layout', 'flat')}{sizes})"


def headline_columns(data: ReportData) -> list[Column]:
    """The scores that a reader must know first: those that the recipe names, else one of each task: running text, then chat,
    then the rest in the recipe's order."""
    table = data.table("held_out")
    named = {f"{c.task}/{c.metric}": c for c in table.of_models}
    if wished := [named[name] for name in data.headline if name in named]:
        return wished
    first: dict[str, Column] = {}
    wanted = ordered(c.metric for c in table.of_models if c.about.better)
    for m in sorted(wanted, key=lambda m: not (m.is_share or m.unit == "bits/byte")):  # others, such as margins, say less
        for column in table.of_models:
            if column.metric == m.name:
                first.setdefault(column.task, column)
    columns = [first[task] for task in dict.fromkeys(c.task for c in table.of_models) if task in first]
    text = [c for c in columns if not c.about.is_share][:1]
    chat = [c for c in columns if table.stages and table.of(c)[0][0] != table.stages[0] and c not in text]
    return [*text, *chat, *(c for c in columns if c not in text and c not in chat)][:_TILES]


def _score_tile(column: Column, table: ScoreTable) -> Tile:
    """The last stage's value; below it where it began. Which stage had the best one is not said: to pick a stage by held-out
    scores is what they are held out from."""
    m, row = column.about, table.of(column)
    (first_stage, first), (last_stage, last) = row[0], row[-1]
    unit = "%" if m.is_share else ""
    error = fmt.error(last.value, last.stderr, last.n, m)
    said = f"at {last_stage}" + (f", from {fmt.value(first.value, m)}{unit} at {first_stage}" if len(row) > 1 else "")
    better = "lower is better, " if m.better == "lower" else ""
    lines = [said, f"held out, {better}n = {fmt.sample(last.n, last.clusters)}"]
    return Tile(f"{fmt.words(column.task)}, {m.title}", fmt.value(last.value, m), f"{unit} {error}", lines)


def measured(data: ReportData) -> str:
    """Where the energy figures come from, said plainly."""
    words = {
        "nvml": "measured by the GPUs' own counters",
        "nvml_sampled": "from the GPUs' power, sampled every 25 ms",
        "rapl": "measured by the processors' own counters, this run's share by CPU time",
        "estimated": "estimated from CPU seconds, not measured",
    }
    mixed = len(data.energy) > 1
    known = [
        f"{fmt.energy(joules)} {words.get(source, source)}" if mixed else words.get(source, source)
        for source, joules in data.energy.items()
    ]
    text = "; ".join(known) if known else "not recorded"
    return f"{text}; incomplete" if data.energy_gaps else text
