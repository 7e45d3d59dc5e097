"""Which runs are of one recipe, the mean and spread of those over their seeds, and what differs between recipes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from lehr.pipeline.explain import CODE, parts
from lehr.report.scores import Column, ScoreTable, read_records, score_matrix
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
    return len(folders) > 1 and all(found) and all(found[0] == other for other in found[1:])


def _configurations(folder: Path) -> list[tuple[str, str]]:
    """The stages of a run, each by its name without a seed's digits and by what neither seeds nor layouts decide, in an order
    that does not depend on seeds. The order of a configuration's keys counts."""
    found = []
    for made in _lineage(folder):
        config = _without_labels(_without_seeds(made["config"]))
        found.append((re.sub(r"\d+", "", made["stage"]), json.dumps(config)))
    return sorted(found)


_UNSAID = ("name", "description")  # of a recipe: what it is called decides nothing
NOT_THERE = "–"


@dataclass(frozen=True)
class Setting:
    """A key of the resolved recipe and its value for each of the runs, as JSON; a dash where a recipe lacks it."""

    key: str
    values: list[str]


def settings_that_differ(recipes: Sequence[Sequence[dict[str, Any]]]) -> dict[str, list[Setting]]:
    """By section of the recipe. Of each column the recipes of its runs: values of a seed group stand behind one another."""
    flat = [[parts(recipe, "", {}) for recipe in column] for column in recipes]
    keys = dict.fromkeys(key for column in flat for recipe in column for key in recipe)
    found: dict[str, list[Setting]] = {}
    for key in keys:
        values = [", ".join(dict.fromkeys(recipe.get(key, NOT_THERE) for recipe in column)) for column in flat]
        section = key.partition(".")[0]
        if key != CODE and section not in _UNSAID and len(set(values)) > 1:
            found.setdefault(section, []).append(Setting(key, values))
    return found


def _lineage(folder: Path) -> list[dict[str, Any]]:
    path, remedy = folder / "lineage.json", "run the same command again: it writes it anew"
    rows = read_objects(path, remedy) if path.is_file() else []
    for number, row in enumerate(rows, 1):
        if not (isinstance(row.get("stage"), str) and isinstance(row.get("config"), dict)):
            raise UserError("no stage with its configuration", where=f"{path}: number {number}", remedy=remedy)
    return rows


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
