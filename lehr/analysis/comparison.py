"""Runs side by side: of one recipe their mean and spread over seeds, of several recipes their last models and what differs."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from lehr.pipeline.explain import changes, named, parts
from lehr.report import format as fmt
from lehr.report.scores import Column, ScoreRecord, ScoreTable, read_records, score_matrix
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_objects
from lehr.runtime.text import markdown


@dataclass(frozen=True)
class Grid:
    """A table as text. Rows begin with the names of what is scored, one for each of `headings` before those of the values."""

    headings: list[str]
    rows: list[list[str]]
    names: int  # columns that hold names

    def markdown(self) -> str:
        """As Markdown, the names of a row in one cell."""
        first = ", ".join(self.headings[: self.names])
        values = self.headings[self.names :]
        lines = [f"| {first} | " + " | ".join(map(markdown, values)) + " |", "|---|" + "---:|" * len(values)]
        for row in self.rows:
            name = ", ".join(map(markdown, row[: self.names]))
            lines.append(f"| {name} | " + " | ".join(row[self.names :]) + " |")
        return "\n".join(lines)


def load_scores(folder: Path) -> ScoreTable:
    """The held-out scores of a run's folder. Raises UserError where there are none, or damaged ones."""
    path = folder / "scores.json"
    if not path.is_file():
        raise UserError("no scores here", where=path, remedy="give the folder of a finished run")
    return score_matrix([r for r in read_records(path) if r.split == "held_out"])


def rows_of(folder: Path) -> dict[str, str]:
    """The row that each stage of a run belongs to, by its lineage: models that differ in nothing but their seed share one, of
    their mean. Empty where the run has no lineage: every stage is a row."""
    alike: dict[str, list[str]] = {}
    for made in _lineage(folder):
        if made["kind"] == "checkpoint":
            same = [[parent["digest"] for parent in made["parents"]], _without_seeds(made["config"])]
            alike.setdefault(json.dumps(same, sort_keys=True), []).append(made["stage"])
    return {stage: f"{_in_common(stages)} (mean of seeds)" for stages in alike.values() if len(stages) > 1 for stage in stages}


def one_recipe(folders: Sequence[Path]) -> bool:
    """Whether runs differ in nothing but their seeds and the layout of ranks, by their lineages. A run without one is like no
    other, for nothing is known of it."""
    found = [_configurations(folder) for folder in folders]
    return len(folders) > 1 and all(found) and all(not _differences(found[0], other) for other in found[1:])


def what_differs(first: Path, other: Path) -> list[str]:
    """A line for each kind of stage that one run has more of, and for each setting that differs, with the stages of it."""
    found = _differences(_configurations(first), _configurations(other))
    return [f"{what} ({named(stages)})" if stages else what for what, stages in found.items()]


@dataclass(frozen=True)
class _Made:
    """A stage that a run made. `kind` is its name without a seed's digits, `config` what neither seeds nor layouts decide."""

    kind: str
    name: str
    config: dict[str, Any]


def _configurations(folder: Path) -> list[_Made]:
    """In an order that does not depend on seeds."""
    found = []
    for made in _lineage(folder):
        config = _without_labels(_without_seeds(made["config"]))
        found.append(_Made(re.sub(r"\d+", "", made["stage"]), made["stage"], config))
    return sorted(found, key=lambda one: (one.kind, json.dumps(one.config, sort_keys=True)))


def _differences(first: list[_Made], other: list[_Made]) -> dict[str, list[str]]:
    """What differs, with the stages in which it does. Stages are told apart by kind, those of one kind paired in order."""
    found: dict[str, list[str]] = {}
    counts = [Counter(made.kind for made in run) for run in (first, other)]
    for kind in dict.fromkeys(made.kind for made in (*first, *other)):
        if counts[0][kind] != counts[1][kind]:
            name = next(made.name for made in (*first, *other) if made.kind == kind)
            found[f"stages such as {name}: {counts[0][kind]} -> {counts[1][kind]}"] = []
            continue
        pairs = zip(*([made for made in run if made.kind == kind] for run in (first, other)), strict=True)
        for one, two in pairs:
            for change in changes(parts(one.config, "", {}), parts(two.config, "", {})):
                found.setdefault(str(change), []).append(one.name)
    return found


def _lineage(folder: Path) -> list[dict[str, Any]]:
    path = folder / "lineage.json"
    return read_objects(path, "run the same command again: it writes it anew") if path.is_file() else []


def _without_seeds(value: Any) -> Any:
    """A configuration without its seeds and names, which follow from them, at any depth."""
    if isinstance(value, dict):
        kept = (key for key in value if key not in ("seed", "name") and not key.endswith("_seed"))
        return {key: _without_seeds(value[key]) for key in kept}
    return [_without_seeds(inner) for inner in value] if isinstance(value, list) else value


def _without_labels(value: Any) -> Any:
    """Without the layout of ranks, which changes last bits alone, and the names of models, which may have a seed in them."""
    if isinstance(value, dict):
        kept = (key for key, inner in value.items() if key != "parallel" and not (key == "model" and isinstance(inner, str)))
        return {key: _without_labels(value[key]) for key in kept}
    return [_without_labels(inner) for inner in value] if isinstance(value, list) else value


def _in_common(stages: Sequence[str]) -> str:
    """The words that names joined by hyphens begin with alike; all names where there are none."""
    words = [stage.split("-") for stage in stages]
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))]
    return "-".join(shared) or ", ".join(stages)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0
    return mean, spread


def averaged(folders: Sequence[Path]) -> Grid:
    """Of runs of one recipe: rows are task and metric, columns stages; each cell is the mean over runs, ± their standard
    deviation. Raises UserError for runs that have no scores."""
    cells: dict[tuple[str, Column], list[float]] = {}
    stages: list[str] = []
    columns: list[Column] = []
    for folder in folders:
        table, shared = load_scores(folder), rows_of(folder)
        columns += [c for c in table.columns if c not in columns]
        rows: dict[str, list[str]] = {}
        for stage in table.stages:
            rows.setdefault(shared.get(stage, stage), []).append(stage)
        stages += [row for row in rows if row not in stages]
        for row, members in rows.items():
            for column in table.columns:
                found = [r.value for s in members if (r := table.cells.get((s, column))) is not None]
                if found:
                    cells.setdefault((row, column), []).append(math.fsum(found) / len(found))
    shown = [[c.task, c.metric, *(_cell(cells.get((stage, c))) for stage in stages)] for c in columns]
    return Grid(["task", "metric", *stages], shown, names=2)


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f} ± {spread:.3f}" if len(values) > 1 else f"{mean:.3f}"


def side_by_side(folders: Sequence[Path], stage: str = "") -> Grid:
    """The scores of one model of each run, that of `stage`, or its last one, and how far each is from the first run's.

    A difference has the standard error of two independent samples: of models that answered the same examples that is more
    than its own. `*` marks those beyond two of them. Raises UserError for a run without scores, or without that stage.
    """
    found = [_model(folder, stage) for folder in folders]
    columns = list(dict.fromkeys(c for name, table in found for c in table.of_models if (name, c) in table.cells))
    names = [f"{folder.name}, {name}" for folder, (name, _) in zip(folders, found, strict=True)]
    rows = []
    for column in columns:
        scores = [table.cells.get((name, column)) for name, table in found]
        rows.append([column.task, column.about.heading, *(_score(r, column) for r in scores)])
        rows[-1] += [_difference(scores[0], r, column) for r in scores[1:]]
    return Grid(["task", "metric", *names, *(f"{name.partition(', ')[0]} − first" for name in names[1:])], rows, names=2)


def _model(folder: Path, stage: str) -> tuple[str, ScoreTable]:
    table = load_scores(folder)
    if not table.stages or (stage and stage not in table.stages):
        there = (
            f"scored were {', '.join(table.stages)}: give one of them" if table.stages else "give the folder of a finished run"
        )
        raise UserError(f"no scores of {stage or 'any model'} here", where=folder, remedy=there)
    return stage or table.stages[-1], table


def _score(record: ScoreRecord | None, column: Column) -> str:
    if record is None:
        return ""
    error = fmt.error(record.value, record.stderr, record.n, column.about)
    return f"{fmt.value(record.value, column.about)} {error}".rstrip()


def _difference(first: ScoreRecord | None, other: ScoreRecord | None, column: Column) -> str:
    if first is None or other is None:
        return ""
    difference = other.value - first.value
    shown = f"{'−' if difference < 0 else '+'}{fmt.value(abs(difference), column.about)}"
    if first.stderr is None or other.stderr is None:
        return shown
    error = math.hypot(_error(first, column), _error(other, column))
    return f"{shown} ± {fmt.value(error, column.about)}{' *' if abs(difference) > 2 * error else ''}"


def _error(record: ScoreRecord, column: Column) -> float:
    """The standard error; of a share of 0 or 1 one side of Wilson's interval, as tables have it: the formula says 0 there."""
    if not record.stderr and column.about.is_share and record.value in (0.0, 1.0):
        return 1 / (record.n + 1)
    return record.stderr or 0.0
