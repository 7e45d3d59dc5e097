"""What a stage writes down while it trains: its log, its progress, its resume files, its evaluations on the way."""

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
from lehr.train.checkpointing.saver import Saves
from lehr.train.deferred_metrics import DeferredMetrics, Pair
from lehr.train.stability import norms
from lehr.train.state import TrainState

_WATCH = Watch()
_OWN = ("loss", "weight", "tokens", "stop", "data_seconds")
_NOTHING: Mapping[str, float] = {}


@dataclass
class Row:
    """One step on its way into the log. `tokens` so far, `step_tokens` of this one; `seconds` that it took, and that the ranks
    waited for their batches within it; `norms` and other numbers that some steps have."""

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

    def line(self, extra: dict[str, float]) -> dict[str, Any]:
        """As `curves.jsonl` has it."""
        own = {name: getattr(self, name) for name in ("step", "tokens", "loss", "grad_norm")} | {"learning_rate": self.lr}
        return {**own, **extra, **({} if self.made else {"skipped": 1}), "seconds": round(self.seconds, 4)}

    def metrics(self, flops_per_token: float) -> dict[str, float]:
        """As trackers get it."""
        tokens, seconds = self.step_tokens, self.seconds
        seen = {"loss": self.loss, "grad_norm": self.grad_norm, "learning_rate": self.lr}
        rates = {"tokens_per_second": tokens / max(seconds, 1e-9), "flops": tokens * flops_per_token}
        finite = math.isfinite(self.loss + self.grad_norm + sum(self.norms.values()))
        skips = {"skipped": float(not self.made), "not_finite": float(not finite)}
        waits = {"data_seconds": self.data_seconds} if math.isfinite(self.data_seconds) else {}
        return {**seen, "tokens": float(tokens), "step_seconds": seconds, **waits, **rates, **skips}


class StepRecord(NamedTuple):
    """A step of the main model: its mean loss, its gradient's norm before clipping, the learning rate, whether the update was
    made, and how long it took; `others` are numbers of the models that are trained beside it."""

    loss: float
    grad_norm: float
    lr: float
    made: bool
    seconds: float
    others: Mapping[str, float] = _NOTHING


class Recorder:
    """Rank 0 writes; on the other ranks (`folder` None) everything but `evaluate` and `go_back` is silent.

    The log is `curves.jsonl` under `folder`: one object a step, flushed at checkpoints, cut back on resume.
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
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.curves = folder / "curves.jsonl"

    def open(self, newest_log_bytes: int) -> None:
        """Begin or go on with the log, cut back to what the resume file knew. A copy takes its place: an older attempt that is
        still at work goes on writing into the old file, which nobody reads any more."""
        if self.folder is None:
            return
        known = b""
        if self.curves.is_file():
            with self.curves.open("rb") as f:
                known = f.read(newest_log_bytes)
        write_beside(self.curves, lambda beside: beside.write_bytes(known))
        self.log = self.curves.open("a", encoding="utf-8")

    def step(
        self, state: TrainState, steps: int, record: StepRecord, scalars: dict[str, float], extra: Mapping[str, Pair]
    ) -> None:
        """Write the step down, with the means of its extras: those in `scalars`, or `extra`'s when they have come."""
        row = None
        if self.log is not None:
            tokens, waited = int(scalars["tokens"]), scalars.get("data_seconds", math.nan)
            loss, grad_norm, lr, made, seconds, others = record
            row = Row(state.step, state.tokens, steps, loss, grad_norm, lr, made, tokens, seconds, waited)
            row.norms = {**others}
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
        extra = {k: v for k, v in {**means, **row.norms}.items() if math.isfinite(v)}
        self._write(row.line(extra))
        self.tracker.progress(self.stage, row.step, row.steps, {**row.metrics(self.flops_per_token), **extra, **self._saved})
        self._saved = {}

    def _write(self, line: dict[str, Any]) -> None:
        if self.log is not None:
            known = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in line.items()}
            self.log.write(json.dumps(known) + "\n")

    def catch_up(self) -> None:
        """Write down the steps whose metrics are still under way. Every rank takes part."""
        if self.deferred is not None:
            self._put_all(self.deferred.drain())

    def evaluate(self, state: TrainState, ranks: Ranks) -> bool:
        """Every rank takes part; rank 0 writes it down. Only `dev` data is ever looked at here.

        False if SIGTERM broke it off: the state says that it is owed. Only where rank 0 saves alone and ends the others.
        """
        if self.evaluator is not None:
            self.catch_up()
            try:
                with preemption.interruptible(ranks.world == 1 or (ranks.peers_alive is not None and self.saves.alone)):
                    values = self.evaluator(state, ranks)
            except preemption.Terminated:
                return False
            self._write({"step": state.step, "tokens": state.tokens, **values})
            if self.log is not None:
                self.tracker.evaluated(self.stage, state.step, {k: v for k, v in values.items() if math.isfinite(v)})
        state.evaluated = state.step
        return True

    def checkpoint(self, state: TrainState, regular: bool = True) -> None:
        """Begin to save `state`; `regular` at the recipe's interval, for rollbacks to go back to. Every rank takes part, in so
        far as it holds what must be saved."""
        self.catch_up()
        began = time.perf_counter()
        if self.log is not None:
            self.log.flush()
        self.saves.save(state, self.curves.stat().st_size if self.log is not None else 0, self._checkpointed, regular)
        self._saved["checkpoint_seconds"] = time.perf_counter() - began  # that training waited

    def go_back(self, state: TrainState, first_bad: int, ranks: Ranks) -> bool:
        """Put the newest regular checkpoint from which a step before `first_bad` was made into `state`, on every rank, and cut
        the log and the later checkpoints back to it. False where there is none; the first one of a stage always counts."""
        self.catch_up()
        self.saves.wait()
        ranks.gather(None)  # nobody reads what is not yet written ...
        log_bytes = self.saves.restore(state, before=max(first_bad, 1))
        ranks.gather(None)  # ... or no longer there
        if log_bytes is not None and self.log is not None:
            self.saves.forget_after(state.step)
            self.log.close()
            self.open(log_bytes)
        return log_bytes is not None

    def rolled_back(self, state: TrainState, came_from: int, first: int, last: int) -> None:
        """Write down that `state` went back from step `came_from`, with the batches `first` to `last` left out, and save it.
        Every rank takes part."""
        left_out = {"rolled_back_from": came_from, "skip_first": first, "skip_last": last}
        self._write({"step": state.step, "tokens": state.tokens, **left_out})
        if first > last:
            self.note(f"{self.stage}: bad steps up to {came_from}, and no checkpoint to go back to; going on")
            return
        self.note(
            f"{self.stage}: bad steps up to {came_from}; went back to step {state.step}, leaving out batches {first} to {last}"
        )
        self.checkpoint(state)

    def _checkpointed(self, size: int) -> None:
        self._saved["checkpoint_bytes"] = float(size)
        self.on_checkpoint()

    def close(self) -> None:
        """Wait for what is still being written; what was not caught up with is dropped. Raises what writing failed with."""
        if self.deferred is not None:
            self.deferred.close()
        if self.log is not None:
            self.log.close()
            self.log = None
        self.saves.wait()
