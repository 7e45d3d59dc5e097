"""Several runs of one recipe side by side: mean and spread over seeds, as a Markdown table.

python -m lehr.report.compare runs/seed7 runs/seed8 runs/seed9
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from lehr.errors import UserError
from lehr.report.scores import Column, ScoreRecord, ScoreTable, score_matrix


def load_scores(folder: Path) -> ScoreTable:
    """The held-out scores of a run's folder. Raises UserError where there are none."""
    path = folder / "scores.json"
    if not path.is_file():
        raise UserError("no scores here", where=path, remedy="give the folder of a finished run")
    records = [ScoreRecord(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return score_matrix([r for r in records if r.split == "held_out"])


def kind_of(stage: str) -> str:
    """Anneals of different seeds are one row: their mean."""
    return "anneal (mean of seeds)" if stage.startswith("anneal-") else stage


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0
    return mean, spread


def compare(folders: Sequence[Path]) -> str:
    """Rows are stages, columns task and metric; each cell is the mean over runs, ± their standard deviation."""
    cells: dict[tuple[str, Column], list[float]] = {}
    stages: list[str] = []
    columns: list[Column] = []
    for folder in folders:
        table = load_scores(folder)
        columns += [c for c in table.columns if c not in columns]
        stages += [k for k in dict.fromkeys(map(kind_of, table.stages)) if k not in stages]
        for kind in dict.fromkeys(map(kind_of, table.stages)):
            for column in table.columns:
                found = [
                    r.value for s in table.stages if kind_of(s) == kind and (r := table.cells.get((s, column))) is not None
                ]
                if found:
                    cells.setdefault((kind, column), []).append(math.fsum(found) / len(found))
    lines = ["| task, metric | " + " | ".join(stages) + " |", "|---|" + "---:|" * len(stages)]
    for column in columns:
        row = [_cell(cells.get((stage, column))) for stage in stages]
        lines.append(f"| {column.task}, {column.metric} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f} ± {spread:.3f}" if len(values) > 1 else f"{mean:.3f}"


def main(arguments: Sequence[str]) -> int:
    """Print the table of the folders named; a folder without scores is one line and exit code 2."""
    try:
        print(compare([Path(argument) for argument in arguments]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
