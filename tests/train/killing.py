"""Seeded runs, each killed by SIGKILL again and again until one attempt is left alone; a process of its own, with nothing but
torch in it, so that an attempt is a fork away.

    python -m tests.train.killing FOLDER FIRST LAST      one JSON line a case
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.incidents import read_incidents
from lehr.artifacts.tensors import save_tensors
from lehr.config.mix import Mix
from lehr.config.optim import Guard, Optim, Rollback
from lehr.config.parallel import Parallel
from lehr.config.schedule import BatchRamp, ConstantSchedule
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.train.checkpointing import resume_state
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Plan, Sums
from lehr.train.losses import CrossEntropy
from lehr.train.next_token import NextToken, TrainingPhase, make_loader
from lehr.train.state import TrainState
from tests.staging import made
from tests.train.corpus import MODEL_320, corpus
from tests.train.pieces import curves

STEPS = 24
KINDS = ("step", "micro", "write", "record", "time")
Kill = tuple[str, float]  # a kind, and when: a share of its opportunities, or of the time


@dataclass(frozen=True)
class Case:
    """Drawn from its number: how often it saves, how its batches are cut and grow, its precision, which steps are bad and
    whether they may lead to a rollback, and where each attempt but the last is killed."""

    every: int
    micro_batch: int
    ramp: BatchRamp | None
    dtype: str
    bad: frozenset[int]
    rollback: Rollback | None
    kills: tuple[tuple[str, float], ...]

    @classmethod
    def draw(cls, number: int) -> Case:
        rng = random.Random(number)
        first = rng.randrange(9, STEPS - 4)
        return cls(
            every=rng.randint(1, 9),
            micro_batch=rng.choice([0, 2, 3]),
            ramp=rng.choice([None, BatchRamp(start=2, double_every_tokens=160)]),
            dtype=rng.choice(["fp32", "bf16"]),
            bad=frozenset([rng.randrange(STEPS), *range(first, first + rng.choice([1, 3]))]),
            rollback=rng.choice([None, Rollback(after=2, limit=2, before=3)]),
            # The first one surely strikes: a rollback passes over up to half of the steps.
            kills=(
                (rng.choice(KINDS[:2]), rng.random() / 2),
                *((rng.choice(KINDS), rng.random()) for _ in range(rng.randint(0, 2))),
            ),
        )

    def phase(self) -> TrainingPhase:
        optim = Optim(lr=3e-3, z_loss=1e-4, guard=Guard(window=8, sigmas=6.0, rollback=self.rollback))
        tokens = STEPS * 8 * 16 if self.ramp is None else 12 * 8 * 16
        mix = Mix(weights={"a": 1.0}, max_epochs=100.0)
        return TrainingPhase(mix, tokens, 8, 16, optim, ConstantSchedule(kind="constant"), self.every, 5, self.ramp)


class Bad:
    """Gradients of the case's bad steps are far too large, or not numbers; the `kill`, if it is for the training, strikes."""

    def __init__(self, state: TrainState, inner: NextToken, case: Case, kill: tuple[str, float]) -> None:
        self.state, self.inner, self.case, self.extras = state, inner, case, inner.extras
        self.kind, self.left, self.loss = kill[0], int(kill[1] * inner.phase.steps), inner.loss

    def backward(self, step: int, ranks: Ranks) -> Sums:
        self.left -= 1
        if self.left == -1 and self.kind == "step":
            die()
        if self.left == -1 and self.kind == "micro":
            self.inner.loss = self._first_only
        sums = self.inner.backward(step, ranks)
        if step in self.case.bad:
            self.state.optimizer.flat.grads.mul_(1e4 if step % 2 else float("nan"))
        return sums

    def _first_only(self, *arguments: Any, **named: Any) -> CrossEntropy:
        self.inner.loss = die
        return self.loss(*arguments, **named)


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(root: Path, shards: Path, case: Case, kill: tuple[str, float]) -> None:
    """One attempt at the case's stage; `kill` is ("", 0) for none."""
    torch.set_num_threads(1)
    phase = case.phase()
    kill_the_writer(kill, phase.steps // case.every)

    def work(attempt: Attempt) -> Outcome:
        dtype: Any = case.dtype
        state = TrainState.fresh(Transformer(MODEL_320).initialise(1), phase.optim, dtype)
        inner = NextToken(state, make_loader(shards, shards, phase), phase, case.micro_batch)
        plan = Plan(phase.steps, phase.rate, phase.clip_norm, case.every)
        fit(RankContext.of(attempt, Parallel()), Ranks(), state, Bad(state, inner, case, kill), plan)
        save_tensors(state.tensors(), attempt.out / "state.safetensors")
        return Outcome(tokens=state.tokens)

    made(LocalStore(root), work)


def kill_the_writer(kill: tuple[str, float], saves: int) -> None:
    """Die with half of a resume file written, or with the file there and its record not."""
    left = int(kill[1] * saves)
    save, record = resume_state.save_tensors, resume_state.write_atomic

    def half(tensors: dict[str, Tensor], path: Path) -> None:
        nonlocal left
        save(tensors, path)
        left -= 1
        if left < 0 and kill[0] == "write":
            os.truncate(path, path.stat().st_size // 2)
            die()

    def unrecorded(path: Path, text: str) -> None:
        if left < 0 and kill[0] == "record":
            die()
        record(path, text)

    resume_state.save_tensors, resume_state.write_atomic = half, unrecorded


def forked(work: Callable[[], None], seconds: float = 0.0) -> bool:
    """Do `work` in a fork, killed after `seconds` if they are given; whether it was killed. Raises if it failed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if seconds:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        raise RuntimeError("an attempt failed by itself")
    return os.WIFSIGNALED(status)


def compared(folder: Path, work: Callable[[Path, Kill], None], kills: Sequence[Kill]) -> dict[str, Any]:
    """`work` (an attempt in a folder, with the kill that strikes it) left alone, and killed: whether both end with the same
    bits and the same log, and what happened on the way."""
    began = time.monotonic()
    forked(partial(work, folder / "whole", ("", 0.0)))
    whole_seconds, killed = time.monotonic() - began, 0
    for kill in kills:
        seconds = max(kill[1] * whole_seconds, 1e-3) if kill[0] == "time" else 0.0
        killed += forked(partial(work, folder / "cut", kill), seconds)
    forked(partial(work, folder / "cut", ("", 0.0)))
    whole, cut = (Artifact.open(next((folder / name / "artifacts").glob("t-*"))) for name in ("whole", "cut"))
    rows = curves(whole)
    return {
        "same": whole.manifest.digest == cut.manifest.digest and rows == curves(cut),
        "kills": killed,
        "told": sum("recorded no end" in line for line in read_incidents(cut)),
        "kinds": [kind for kind, _ in kills],
        "skipped": sum("skipped" in row for row in rows),
        "rollbacks": sum("rolled_back_from" in row for row in rows),
    }


def trial(number: int, folder: Path, shards: Path) -> dict[str, Any]:
    """What `compared` says of the case."""
    case = Case.draw(number)
    found = compared(folder, lambda root, kill: attempt(root, shards, case, kill), case.kills)
    return {"case": number, **found, "accumulates": case.micro_batch > 0}


def main(folder: Path, first: int, last: int) -> None:
    shards = folder / "shards"
    shards.mkdir(parents=True)
    forked(lambda: corpus(shards) and None)
    for number in range(first, last):
        print(json.dumps(trial(number, folder / str(number), shards)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
