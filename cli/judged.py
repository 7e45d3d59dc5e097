"""What `lehr eval` says of scores that a model gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lehr.report.scores import score_matrix


def judges(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each score that a judge or a classifier gave."""
    for column, words in score_matrix(records).judged:
        yield f"{column.task}, {column.metric}: judged by a model, {words}"
