"""Learning rate and batch size of a plan as points to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lehr.planning.work import Work
from lehr.report.schedules import ScheduleLine

_EVEN, _SPACED = 400, 600  # points evenly over a stage, and more towards its beginning, where the warm-up is


def schedule_lines(works: Sequence[Work]) -> list[ScheduleLine]:
    """One line a stage, on the axis of tokens that all stages share."""
    phases = ["pretraining" if w.kind == "pretraining" else "post-training" for w in works]
    return [ScheduleLine(w.name, p, list(_rates(w)), list(_batches(w))) for w, p in zip(works, phases, strict=True)]


def _rates(work: Work) -> Iterator[tuple[float, float]]:
    """(tokens seen by the model, learning rate)."""
    even = {work.tokens * i / _EVEN for i in range(_EVEN + 1)}
    spaced = {work.tokens ** (i / _SPACED) for i in range(_SPACED)}
    for at in sorted(even | spaced):
        yield work.start + at, work.rate(at)


def _batches(work: Work) -> Iterator[tuple[float, float]]:
    """(tokens seen by the model, tokens in a batch), two points for each step of the staircase; the mean where sequences are
    padded to the longest of a batch."""
    if work.kind != "pretraining":
        yield from ((work.start + at, work.tokens / work.steps) for at in (0, work.tokens))
        return
    ends = [start for start, _ in work.pieces[1:]] + [work.tokens]
    for (start, size), end in zip(work.pieces, ends, strict=True):
        yield work.start + start, float(size * work.sequence_length)
        yield work.start + end, float(size * work.sequence_length)
