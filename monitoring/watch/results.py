"""Scores, conversations and documents of a run in words, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lehr.monitoring.watch.folder import Facts
from lehr.report import format as fmt
from lehr.report.scores import ScoreRecord, score_matrix
from lehr.runtime.metrics import DEV
from lehr.runtime.text import visible

_MOST_COLUMNS = 40


def results(facts: Facts) -> dict[str, Any]:
    """For the page: texts and numbers, never markup."""
    splits = sorted({record.split for record in facts.scores}, key=lambda split: (split != "held_out", split))
    return {
        "scores": [table for split in splits[:2] if (table := _table(facts.scores, split))["columns"]],
        "samples": facts.samples,
        "funnel": [{"source": source, **row} for source, row in facts.funnel.items()],
    }


def _table(records: Sequence[ScoreRecord], split: str) -> dict[str, Any]:
    table = score_matrix([r for r in records if r.split == split and not r.metric.startswith(DEV)])
    columns = table.of_models[:_MOST_COLUMNS]
    rows = []
    for stage in table.stages:
        found = [table.cells.get((stage, column)) for column in columns]
        rows.append({"stage": visible(stage), "cells": [_said(record) for record in found]})
    headings = [{"task": visible(fmt.words(c.task)), "metric": visible(c.about.heading)} for c in columns]
    return {"split": visible(fmt.words(split)), "columns": headings, "rows": rows}


def _said(record: ScoreRecord | None) -> str:
    if record is None:
        return ""
    about = score_matrix([record]).columns[0].about
    return f"{fmt.value(record.value, about)} {fmt.error(record.value, record.stderr, record.n, about)}".rstrip()
