"""What a stage records during training: its log, its progress, its saves, and its evaluations."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lehr.artifacts.artifact import write_beside
from lehr.config.training import Watch
from lehr.distributed.ranks import Ranks
from lehr.runtime import preemption
from lehr.runtime.ports import Tracker
from lehr.train import step_times
from lehr.train.checkpointing.copied_saves import CopiedSaves
from lehr.train.checkpointing.saver import Saves
from lehr.train.deferred_metrics import DeferredMetrics, Pair
from lehr.train.stability import norms
from lehr.train.state import MAIN, TrainState

_WATCH = Watch()
CURVES = "curves.jsonl"  # the log, in a stage's scratch
# What a step took: for the trackers, and not for the log, which a run repeats byte for byte.
_TIMED = (*(f"{name}_seconds" for name in step_times.NAMES), "slowest_rank", "straggler_ratio")
_OWN = ("loss", "weight", "tokens", "stop", "data_seconds", *_TIMED)
_NOTHING: Mapping[str, float] = {}


@dataclass
class Row:
    """One step on its way into the log: `tokens` seen so far, `step_tokens` in this step, `seconds` it took, of which the ranks
    waited `data_seconds` for their batches; `norms` and other numbers that only some steps have."""

    step: int
    tokens: int
    steps: int
    loss: float
    grad_norm: float
    lr: float
    made: bool
    step_tokens: int
    seconds: float
    data_seconds: float
    norms: dict[str, float] = field(default_factory=dict)
    timed: dict[str, float] = field(default_factory=dict)

    def line(self, extra: dict[str, float]) -> dict[str, Any]:
        """The row as a line of `curves.jsonl`."""
        own = {name: getattr(self, name) for name in ("step", "tokens", "loss", "grad_norm")} | {"learning_rate": self.lr}
        return {**own, **extra, **({} if self.made else {"skipped": 1}), "seconds": round(self.seconds, 4)}

    def metrics(self, flops_per_token: float) -> dict[str, float]:
        """The row as metrics for the trackers."""
        tokens, seconds = self.step_tokens, self.seconds
        seen = {"loss": self.loss, "grad_norm": self.grad_norm, "learning_rate": self.lr}
        rates = {"tokens_per_second": tokens / max(seconds, 1e-9), "flops": tokens * flops_per_token}
        finite = math.isfinite(self.loss + self.grad_norm + sum(self.norms.values()))
        skips = {"skipped": float(not self.made), "not_finite": float(not finite)}
        waits = {"data_seconds": self.data_seconds} if math.isfinite(self.data_seconds) else {}
        return {**seen, "tokens": float(tokens), "step_seconds": seconds, **waits, **rates, **skips, **self.timed}


class StepRecord(NamedTuple):
    """A step of the main model: its mean loss, gradient norm before clipping and learning rate, whether the update was made,
    and how long it took; `others` are numbers of the models trained beside it."""

    loss: float
    grad_norm: float
    lr: float
    made: bool
    seconds: float
    others: Mapping[str, float] = _NOTHING


class Recorder:
    """Rank 0 writes; on the other ranks (`folder` None) all methods but `evaluate` and `go_back` write nothing.

    The log is `curves.jsonl` under `folder`: one object for each step, flushed at checkpoints, truncated on resume.
    """

    def __init__(
        self,
        stage: str,
        folder: Path | None,
        tracker: Tracker,
        saves: Saves,
        on_checkpoint: Callable[[], None] = lambda: None,
        evaluator: Callable[[TrainState, Ranks], dict[str, float]] | None = None,
        flops_per_token: float = 0.0,
        watch: Watch = _WATCH,
        deferred: DeferredMetrics[Row | None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.note = note or tracker.note
        self.flops_per_token, self._saved = flops_per_token, dict[str, float]()
        self.stage, self.folder, self.tracker, self.saves = stage, folder, tracker, saves
        self.on_checkpoint, self.evaluator, self.watch, self.deferred = on_checkpoint, evaluator, watch, deferred
        self.log: TextIO | None = None
        self._reached = 0  # the last step in the log that was made before, by an earlier attempt or before a rollback
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.curves = folder / CURVES

    def open(self, newest_log_bytes: int) -> None:
        """Start the log, or continue it after truncating it to its length at the restored save. The file is replaced by a copy
        rather than truncated: an older attempt that is still alive keeps writing to the old inode, which is no longer read."""
        if self.folder is None:
            return
        known = lost = b""
        if self.curves.is_file():
            with self.curves.open("rb") as f:
                known, lost = f.read(newest_log_bytes), f.read()
        self._reached = max(self._reached, _last_step(lost))
        write_beside(self.curves, lambda beside: beside.write_bytes(known))
        # By lines: what a killed attempt had reached is then known to the next, and how much of it is made again.
        self.log = self.curves.open("a", encoding="utf-8", buffering=1)

    def step(
        self, state: TrainState, steps: int, record: StepRecord, scalars: dict[str, float], extra: Mapping[str, Pair]
    ) -> None:
        """Log the step with the means of its extras: those in `scalars`, or those of `extra` once they are reduced."""
        row = None
        if self.log is not None:
            tokens, waited = int(scalars["tokens"]), scalars.get("data_seconds", math.nan)
            loss, grad_norm, lr, made, seconds, others = record
            row = Row(state.step, state.tokens, steps, loss, grad_norm, lr, made, tokens, seconds, waited)
            row.norms = {**others}
            row.timed = {name: scalars[name] for name in _TIMED if name in scalars} | _limits(state)
            row.timed |= {"rework": 1.0} if state.step <= self._reached else {}
            if state.step % self.watch.norm_steps == 0:
                row.norms |= norms(state, grad_norm)
        if self.deferred is None:
            self._put(row, {name: value for name, value in scalars.items() if name not in _OWN})
        else:
            self.deferred.add(row, extra)
            self._put_all(self.deferred.ready())

    def _put_all(self, rows: list[tuple[Row | None, dict[str, float]]]) -> None:
        for row, means in rows:
            self._put(row, means)

    def _put(self, row: Row | None, means: dict[str, float]) -> None:
        if self.log is None or row is None:
            return
        # JSON has no NaN: a mean over no count is left out, and `_write` turns a loss that is not finite into null.
        extra = {k: v for k, v in {**means, **row.norms}.items() if math.isfinite(v)}
        self._write(row.line(extra))
        self.tracker.progress(self.stage, row.step, row.steps, {**row.metrics(self.flops_per_token), **extra, **self._saved})
        self._saved = {}

    def _write(self, line: dict[str, Any]) -> None:
        if self.log is not None:
            known = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in line.items()}
            self.log.write(json.dumps(known) + "\n")

    def catch_up(self) -> None:
        """Log the steps whose metrics are still being reduced. A collective: every rank calls it."""
        if self.deferred is not None:
            self._put_all(self.deferred.drain())

    def evaluate(self, state: TrainState, ranks: Ranks) -> bool:
        """Evaluate on `dev` data, on every rank; rank 0 logs the result. Returns False if SIGTERM interrupted it: the state
        then records that the evaluation is still due. It is interruptible only if rank 0 saves without the other ranks and the
        launcher ends them, because they may be waiting in a collective.
        """
        if self.evaluator is not None:
            self.catch_up()
            began = time.perf_counter()
            try:
                with preemption.interruptible(ranks.world == 1 or (ranks.peers_alive is not None and self.saves.alone)):
                    values = self.evaluator(state, ranks)
            except preemption.Terminated:
                return False
            values = {**values, "evaluation_seconds": round(time.perf_counter() - began, 4)}  # training waited for so long
            self._write({"step": state.step, "tokens": state.tokens, **values})
            if self.log is not None:
                self.tracker.evaluated(self.stage, state.step, {k: v for k, v in values.items() if math.isfinite(v)})
        state.evaluated = state.step
        return True

    def checkpoint(self, state: TrainState, regular: bool = True) -> None:
        """Start saving `state`; `regular`: at the recipe's interval, so that rollbacks may go back to it. Every rank calls it,
        and those that hold a part of the state write it."""
        self.catch_up()
        began = time.perf_counter()
        self.saves.save(state, self._flushed(), self._checkpointed, regular)
        self._saved["checkpoint_seconds"] = time.perf_counter() - began  # the time during which training waited

    def copy(self, state: TrainState) -> None:
        """Start a copy in memory, if one is due and the saves make them. Every rank calls it after every step."""
        if isinstance(self.saves, CopiedSaves) and state.step % self.watch.copy_steps == 0:
            self.catch_up()
            began = time.perf_counter()
            self.saves.copy(state, self._flushed())
            self._saved["copy_seconds"] = time.perf_counter() - began

    def _flushed(self) -> int:
        """The log's length. Flushed first: the file must be at least that long when the state is restored."""
        if self.log is None:
            return 0
        self.log.flush()
        return self.curves.stat().st_size

    def go_back(self, state: TrainState, first_bad: int, ranks: Ranks) -> bool:
        """Load the newest regular save made before step `first_bad` into `state`, on every rank, and drop the log's lines and
        the saves after it. False if there is none; the stage's first save always qualifies."""
        self.catch_up()
        self.saves.wait()
        ranks.gather(None)  # a barrier: no rank reads a save that another is still writing ...
        log_bytes = self.saves.restore(state, before=max(first_bad, 1))
        ranks.gather(None)  # ... and rank 0 deletes none that another is still reading
        if log_bytes is not None and self.log is not None:
            self.saves.forget_after(state.step)
            self.log.close()
            self.open(log_bytes)
        return log_bytes is not None

    def rolled_back(self, state: TrainState, came_from: int, first: int, last: int) -> None:
        """Log that `state` went back from step `came_from`, with the batches `first` to `last` left out, and save it.
        Every rank calls it."""
        left_out = {"rolled_back_from": came_from, "skip_first": first, "skip_last": last}
        self._write({"step": state.step, "tokens": state.tokens, **left_out})
        if first > last:
            self.note(f"{self.stage}: bad steps up to {came_from}, and no checkpoint to go back to; going on")
            return
        self._saved["rolled_back"] = 1.0
        self.note(
            f"{self.stage}: bad steps up to {came_from}; went back to step {state.step}, leaving out batches {first} to {last}"
        )
        self.checkpoint(state)

    def _checkpointed(self, size: int) -> None:
        self._saved["checkpoint_bytes"] = float(size)
        self.on_checkpoint()

    def close(self) -> None:
        """Wait for what is still being written; rows that were not drained are dropped. Raises the error of a failed write."""
        if self.deferred is not None:
            self.deferred.close()
        if self.log is not None:
            self.log.close()
            self.log = None
        self.saves.wait()


def _limits(state: TrainState) -> dict[str, float]:
    """Where the main model's guard stands: a loss or a norm above these is a spike. Empty until it knows."""
    limits = zip(("guard_loss_limit", "guard_grad_norm_limit"), state.models[MAIN].guard.limits, strict=True)
    return {name: limit for name, limit in limits if math.isfinite(limit)}


def _last_step(lines: bytes) -> int:
    """The last step in lines of a log, of which the last may be torn; 0 if there is none."""
    for line in reversed(lines.splitlines()):
        try:
            row = json.loads(line)
            if "loss" in row:
                return int(row["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return 0
