"""What all training stages share: running the loop on a rank, resuming it after a restart, and writing its logs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import LOGS, STABILITY, write_atomic
from lehr.artifacts.incidents import FILE as INCIDENTS
from lehr.artifacts.incidents import record
from lehr.config.parallel import Parallel
from lehr.config.training import Watch
from lehr.distributed.ranks import Local, Ranks
from lehr.model.size import flops_per_token
from lehr.pipeline.attempt import Attempt
from lehr.runtime import preemption
from lehr.runtime.errors import diverged
from lehr.runtime.json_files import read_rows
from lehr.runtime.ports import ONLY_ATTEMPT, RESUME, FencingToken, NullPower, NullTracker, Power, Sampler, Tracker, itself
from lehr.train.checkpointing.copied_saves import copied
from lehr.train.checkpointing.retention import Retention
from lehr.train.checkpointing.saver import Saves
from lehr.train.checkpointing.saves import WholeSaves
from lehr.train.deferred_metrics import DeferredMetrics
from lehr.train.garbage_collection import collector_off
from lehr.train.loop import Objective, Plan, train
from lehr.train.recorder import CURVES, Recorder, Row
from lehr.train.stability import summary
from lehr.train.state import TrainState
from lehr.train.sync_debugging import sync_report

_WATCH = Watch()
_LAST_STEPS = 3  # more than one: a single bad batch at the end, whose update was skipped, must not fail the stage
Evaluator = Callable[[TrainState, Ranks], dict[str, float]]


@dataclass(frozen=True)
class RankContext:
    """Where a stage on ranks reads and writes: every rank may read, only rank 0 writes. `saved` is called after each save."""

    name: str
    scratch: Path
    out: Path
    parallel: Parallel
    tracker: Any
    saved: Any
    fencing: FencingToken = ONLY_ATTEMPT
    watch: Watch = _WATCH
    serve: Callable[[Any], Sampler] = itself  # see StageContext
    power: Power = field(default_factory=NullPower)

    @classmethod
    def of(cls, attempt: Attempt, parallel: Parallel, watch: Watch = _WATCH) -> RankContext:
        tracker, saved = Local(attempt.tracker, NullTracker()), Local(attempt.saved, _nothing)
        own = (attempt.fencing, watch, attempt.serve, attempt.power_on_ranks())
        return cls(attempt.name, attempt.scratch, attempt.out, parallel, tracker, saved, *own)


def retention(watch: Watch) -> Retention:
    """Which saves the recipe keeps."""
    return Retention(watch.keep_saves, watch.keep_saves_every_steps)


def _nothing() -> None:
    return None


def logger(context: RankContext, ranks: Ranks) -> Callable[[str], None]:
    """A function that writes a message to the trackers and to the artifact's log of incidents; on rank 0 only."""

    def log(text: str) -> None:
        if ranks.first:
            context.tracker.value.note(text)
            record(context.scratch, text)

    return log


def fit(
    context: RankContext,
    ranks: Ranks,
    state: TrainState,
    objective: Objective,
    plan: Plan,
    evaluator: Evaluator | None = None,
    saves: Saves | None = None,
) -> TrainState:
    """Resume if there is a save, train to the end, and write the logs into the artifact. Without `saves` every rank holds the
    whole state.

    Raises Preempted after SIGTERM, once the state is saved, or when a newer attempt has begun; UserError if training diverged.
    """
    tracker: Tracker = context.tracker.value
    log = logger(context, ranks)
    saves = saves or WholeSaves(context.scratch / RESUME, ranks, context.fencing, log, retention(context.watch))
    flops = flops_per_token(state.model.config, state.model.config.max_seq_len)
    folder = context.scratch if ranks.first else None
    curves, layout = context.scratch / CURVES if ranks.first else None, context.parallel.described
    copies = copied(saves, ranks, context.fencing, layout, curves, log) if context.watch.copy_steps else None
    saves = copies or saves
    every = context.watch.metrics_steps
    deferred: DeferredMetrics[Row | None] | None = DeferredMetrics(objective.extras, every, ranks) if every > 1 else None
    recorder = Recorder(
        context.name, folder, tracker, saves, context.saved.value, evaluator, flops, context.watch, deferred, log
    )
    log_bytes = saves.restore(state)
    if log_bytes is not None:
        log(f"{context.name}: going on at step {state.step}")
    recorder.open(log_bytes or 0)
    # From here SIGTERM only sets a flag: the running step is finished and saved; after the last step the artifact is sealed.
    preemption.defer()
    try:
        if log_bytes is None and state.rollbacks.armed:
            recorder.checkpoint(state)  # otherwise a rollback during the first steps would have no save to go back to
        with collector_off(), sync_report(context.name, context.out, state, tracker, ranks):
            train(state, objective, plan, ranks, recorder)
        recorder.catch_up()
    except BaseException as error:
        error.add_note(f"{context.name} stopped after step {state.step} of {plan.steps}")  # for the next attempt's incidents
        raise
    finally:
        recorder.close()
    if copies is not None:
        copies.forget()
    if ranks.first:
        _leave_logs(context, recorder, state, plan.steps)
    return state


def _leave_logs(context: RankContext, recorder: Recorder, state: TrainState, steps: int) -> None:
    """Write the curves and their stability summary into the artifact's logs, and the spike scores to the trackers."""
    logs = context.out / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recorder.curves, logs / "curves.jsonl")
    if (context.scratch / INCIDENTS).is_file():
        shutil.copyfile(context.scratch / INCIDENTS, logs / INCIDENTS)
    rows = list(read_rows(recorder.curves, "run the same command again: it goes on from the last save"))
    _check_numbers(context.name, [row for row in rows if "loss" in row])
    steadiness = summary(rows, state.rollbacks)
    write_atomic(logs / STABILITY, json.dumps(steadiness, indent=1))
    scores = {key: value for key, value in steadiness.items() if key.startswith("spike_score")}
    context.tracker.value.progress(context.name, state.step, steps, scores)


def _check_numbers(name: str, rows: list[dict[str, Any]]) -> None:
    """Raises UserError if the stage's last steps had no finite loss or gradient norm: such weights must not become an artifact.
    A single such step may come from a bad batch, whose update was skipped."""
    last = rows[-max(1, min(_LAST_STEPS, len(rows) - 1)) :]
    if last and all(row["loss"] is None or row["grad_norm"] is None for row in last):
        raise diverged(f"the last steps of {name} had no finite loss or gradient")
