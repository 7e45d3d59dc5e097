"""A suite's scores on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lehr.cli.tables import plain_table, text
from lehr.evals.named_suites import Suite, summary

_HEADINGS = ("benchmark", "score, %", "examples", "by", "formulations, %")


def suite_table(name: str, suite: Suite, records: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each benchmark, their mean, and what of the suite is missing."""
    found = summary(suite, records)
    table = plain_table(f"{name}: {suite.source}", _HEADINGS, right=_HEADINGS[1:3])
    for one in found.benchmarks:
        several = ", ".join(f"{task.partition(':')[2]} {100 * value:.1f}" for task, value in one.formulations.items())
        by = f"{one.metric} of {one.task.partition(':')[2]}"
        table.add_row(*map(text, (one.name, _score(one.value, one.stderr), f"{one.n:,}", by, several)))
    table.add_row(*map(text, ("mean", _score(found.mean, found.stderr), "", "", "")))
    if suite.missing:
        table.caption = f"Not here: {suite.missing}."
        table.caption_justify = "left"
    return table


def _score(value: float, stderr: float | None) -> str:
    return f"{100 * value:.1f}" + (f" ± {100 * stderr:.1f}" if stderr is not None else "")
