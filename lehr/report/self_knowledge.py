"""What the model knows of itself: right answers by stage, and examples."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.report import format as fmt
from lehr.report.data import ReportData, Sample
from lehr.report.scores import ScoreRecord
from lehr.runtime.metrics import metric

FAMILY = "self_knowledge"  # the task of its scores, and the family of its questions


@dataclass(frozen=True)
class SelfKnowledge:
    """`rows`: model, split, right answers with their standard error, questions, wordings."""

    rows: list[list[str]]
    samples: list[Sample]


def self_knowledge(data: ReportData) -> SelfKnowledge | None:
    """In the order of the stages. Nothing without scores."""
    places = {stage.name: place for place, stage in enumerate(data.stages)}
    records = [record for record in data.scores if record.task == FAMILY]
    records.sort(key=lambda record: (places.get(record.stage, len(places)), record.split))
    samples = [sample for sample in data.samples if sample.family == FAMILY]
    return SelfKnowledge([_row(record) for record in records], samples) if records else None


def _row(record: ScoreRecord) -> list[str]:
    of = metric(record.metric)
    error = fmt.error(record.value, record.stderr, record.clusters, of)
    right = f"{fmt.value(record.value, of)} {error}".rstrip()
    return [record.stage, fmt.words(record.split), right, f"{record.n:,}", f"{record.clusters:,}"]
