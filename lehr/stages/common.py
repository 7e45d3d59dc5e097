"""What the training stages share: one way to run the loop on ranks, resume it and write its checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr import stop
from lehr.artifact import LOGS
from lehr.config.recipe import Parallel
from lehr.model.size import flops_per_token
from lehr.ports import ONLY_ATTEMPT, Claim, NullTracker, Tracker
from lehr.stage import Job
from lehr.train.engine import Saves
from lehr.train.journal import Journal
from lehr.train.loop import Objective, Plan, train
from lehr.train.parallel import Local, Ranks
from lehr.train.saves import WholeSaves
from lehr.train.state import TrainState

Evaluator = Callable[[TrainState, Ranks], dict[str, float]]


@dataclass(frozen=True)
class Desk:
    """Where a stage on several ranks works: every rank may read, rank 0 alone writes."""

    stage: str
    scratch: Path
    out: Path
    parallel: Parallel
    tracker: Any
    checkpointed: Any
    claim: Claim = ONLY_ATTEMPT

    @classmethod
    def of(cls, job: Job, parallel: Parallel) -> Desk:
        tracker, checkpointed = Local(job.tracker, NullTracker()), Local(job.checkpointed, _nothing)
        return cls(job.stage, job.scratch, job.out, parallel, tracker, checkpointed, job.claim)


def _nothing() -> None:
    return None


def conduct(
    desk: Desk,
    ranks: Ranks,
    state: TrainState,
    objective: Objective,
    plan: Plan,
    evaluator: Evaluator | None = None,
    saves: Saves | None = None,
) -> TrainState:
    """Resume if there is something to resume, train to the end, and leave the log in the artifact's logs. Without `saves`
    every rank holds the whole state.

    Raises Preempted when SIGTERM came, with the state saved, or when a newer attempt began.
    """
    tracker: Tracker = desk.tracker.value
    saves = saves or WholeSaves(desk.scratch / "resume", ranks, desk.claim, tracker.note)
    flops = flops_per_token(state.model.config, state.model.config.max_seq_len)
    folder = desk.scratch if ranks.first else None
    journal = Journal(desk.stage, folder, tracker, saves, desk.checkpointed.value, evaluator, flops)
    log_bytes = saves.restore(state)
    if log_bytes is not None and ranks.first:
        tracker.note(f"{desk.stage}: going on at step {state.step}")
    journal.open(log_bytes or 0)
    stop.defer()  # SIGTERM: the running step is finished and saved; after the last one the artifact is
    try:
        train(state, objective, plan, ranks, journal)
    finally:
        journal.close()
    if ranks.first:
        (desk.out / LOGS).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(journal.curves, desk.out / LOGS / "curves.jsonl")
    return state
