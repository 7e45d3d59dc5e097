"""Several runs of one recipe side by side: mean and spread over seeds, as a Markdown table.

python -m lehr.analysis.comparison runs/seed7 runs/seed8 runs/seed9
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from lehr.report.scores import Column, ScoreTable, read_records, score_matrix
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_objects
from lehr.runtime.text import markdown, visible


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


def refuse_different(folders: Sequence[Path]) -> None:
    """Raises UserError for runs of different recipes, by their lineages: a mean over those is a number of nothing. What seeds
    and the layout of ranks change is no difference; of a run without lineage nothing is known."""
    known = [(folder, found) for folder in folders if (found := _configurations(folder))]
    for folder, found in known[1:]:
        first, expected = known[0]
        if (what := _difference(expected, found)) is not None:
            raise UserError(
                f"{first} and {folder} are of different recipes: {what}",
                remedy="compare runs that differ in their seeds alone, the others one at a time",
            )


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


def _difference(expected: list[_Made], found: list[_Made]) -> str | None:
    """The first thing that two runs do otherwise, or None."""
    counts = [Counter(made.kind for made in run) for run in (expected, found)]
    for made in (*expected, *found):
        if counts[0][made.kind] != counts[1][made.kind]:
            return f"{counts[0][made.kind]} and {counts[1][made.kind]} stages such as {made.name}"
    for one, other in zip(expected, found, strict=True):
        for key in sorted({*one.config, *other.config}):
            if one.config.get(key) != other.config.get(key):
                return f"{key} of {one.name} is {_brief(one.config.get(key))} and {_brief(other.config.get(key))}"
    return None


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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


def compare(folders: Sequence[Path]) -> str:
    """Rows are stages, columns task and metric; each cell is the mean over runs, ± their standard deviation. Raises UserError
    for runs that have no scores, and for runs of different recipes."""
    refuse_different(folders)
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
    lines = ["| task, metric | " + " | ".join(map(markdown, stages)) + " |", "|---|" + "---:|" * len(stages)]
    for column in columns:
        values = [_cell(cells.get((stage, column))) for stage in stages]
        lines.append(f"| {markdown(column.task)}, {markdown(column.metric)} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f} ± {spread:.3f}" if len(values) > 1 else f"{mean:.3f}"


def main(arguments: Sequence[str]) -> int:
    """Print the table of the folders named; a folder without scores, or of another recipe, is one line and exit code 2."""
    try:
        print(compare([Path(argument) for argument in arguments]))
    except UserError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
