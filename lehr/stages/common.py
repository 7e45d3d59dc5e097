"""What the training stages share: one way to run the loop on ranks, resume it and write its checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr import stop
from lehr.artifact import LOGS, write_atomic
from lehr.config.parallel import Parallel
from lehr.config.training import Watch
from lehr.incidents import FILE as INCIDENTS
from lehr.incidents import record
from lehr.model.size import flops_per_token
from lehr.ports import ONLY_ATTEMPT, RESUME, Claim, NullTracker, Sampler, Tracker, itself
from lehr.stage import Job
from lehr.train.collection import collector_off
from lehr.train.engine import Saves
from lehr.train.journal import Journal, Row
from lehr.train.later import Later
from lehr.train.loop import Objective, Plan, train
from lehr.train.parallel import Local, Ranks
from lehr.train.retention import Retention
from lehr.train.saves import WholeSaves
from lehr.train.stability import FILE, summary
from lehr.train.state import TrainState
from lehr.train.syncs import sync_report

_WATCH = Watch()
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
    watch: Watch = _WATCH
    serve: Callable[[Any], Sampler] = itself  # see Surroundings

    @classmethod
    def of(cls, job: Job, parallel: Parallel, watch: Watch = _WATCH) -> Desk:
        tracker, checkpointed = Local(job.tracker, NullTracker()), Local(job.checkpointed, _nothing)
        return cls(job.stage, job.scratch, job.out, parallel, tracker, checkpointed, job.claim, watch, job.serve)


def retention(watch: Watch) -> Retention:
    """What the recipe says of it."""
    return Retention(watch.keep_saves, watch.keep_saves_every_steps)


def _nothing() -> None:
    return None


def teller(desk: Desk, ranks: Ranks) -> Callable[[str], None]:
    """Says what happened where people look, and keeps it for the artifact's logs over all attempts."""

    def tell(text: str) -> None:
        if ranks.first:
            desk.tracker.value.note(text)
            record(desk.scratch, text)

    return tell


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
    tell = teller(desk, ranks)
    saves = saves or WholeSaves(desk.scratch / RESUME, ranks, desk.claim, tell, retention(desk.watch))
    flops = flops_per_token(state.model.config, state.model.config.max_seq_len)
    folder = desk.scratch if ranks.first else None
    every = desk.watch.metrics_steps
    later: Later[Row | None] | None = Later(objective.extras, every, ranks) if every > 1 else None
    journal = Journal(desk.stage, folder, tracker, saves, desk.checkpointed.value, evaluator, flops, desk.watch, later, tell)
    log_bytes = saves.restore(state)
    if log_bytes is not None:
        tell(f"{desk.stage}: going on at step {state.step}")
    journal.open(log_bytes or 0)
    stop.defer()  # SIGTERM: the running step is finished and saved; after the last one the artifact is
    try:
        if log_bytes is None and state.rewinds.armed:
            journal.checkpoint(state)  # else the first steps had nothing to go back to
        with collector_off(), sync_report(desk.stage, desk.out, state, tracker, ranks):
            train(state, objective, plan, ranks, journal)
        journal.catch_up()
    except BaseException as error:
        error.add_note(f"{desk.stage} stood after step {state.step} of {plan.steps}")  # for the next attempt's incidents
        raise
    finally:
        journal.close()
    if ranks.first:
        _leave_logs(desk, journal, state, plan.steps)
    return state


def _leave_logs(desk: Desk, journal: Journal, state: TrainState, steps: int) -> None:
    """Curves and what they say of the stage's steadiness, for the artifact's record and the spectators."""
    logs = desk.out / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(journal.curves, logs / "curves.jsonl")
    if (desk.scratch / INCIDENTS).is_file():
        shutil.copyfile(desk.scratch / INCIDENTS, logs / INCIDENTS)
    steadiness = summary([json.loads(line) for line in journal.curves.read_text().splitlines()], state.rewinds)
    write_atomic(logs / FILE, json.dumps(steadiness, indent=1))
    scores = {key: value for key, value in steadiness.items() if key.startswith("spike_score")}
    desk.tracker.value.progress(desk.stage, state.step, steps, scores)
