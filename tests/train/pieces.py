"""A tiny training run, module-level so that other ranks can import it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.tensors import save_tensors
from lehr.config.model import Model
from lehr.config.optim import Guard, Optim
from lehr.config.parallel import Parallel
from lehr.config.training import Watch
from lehr.distributed.ranks import Local, Ranks, run_ranks
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.runtime.errors import UserError
from lehr.runtime.metrics import Metric, declare
from lehr.runtime.ports import NullTracker, Tracker
from lehr.train.fit import Evaluator, RankContext, fit
from lehr.train.loop import Objective, Plan, Sums
from lehr.train.losses import cross_entropy
from lehr.train.state import TrainState
from lehr.train.step_times import backpropagate
from tests.staging import made

MODEL = Model(vocab_size=50, n_layers=2, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=16, init_std=0.1)
OPTIM = Optim(lr=3e-3, guard=Guard(window=16, sigmas=3.0))


declare(Metric("rows", "rows of a rank", live=False))


class Copying:
    """Rows of a pattern that can be learned; `poison` puts a NaN into the gradients of that step."""

    extras: tuple[str, ...] = ("rows",)

    def __init__(self, model: Transformer, poison: int = -1) -> None:
        self.model, self.poison = model, poison

    def backward(self, step: int, ranks: Ranks) -> Sums:
        generator = torch.Generator().manual_seed(step)
        start_B1 = torch.randint(0, 50, (8, 1), generator=generator)
        rows_BT = ((start_B1 + torch.arange(13) * 3) % 50)[ranks.rank :: ranks.world]
        ce = cross_entropy(self.model, rows_BT[:, :-1], rows_BT[:, 1:], with_z=True)
        backpropagate(ce.nats + 1e-4 * ce.z)
        if step == self.poison:
            self.model.embed.weight.grad.view(-1)[3] = float("nan")  # type: ignore[union-attr]
        return Sums(float(ce.nats.detach()), ce.tokens, rows_BT.numel(), {"rows": (float(len(rows_BT)), 1.0)})


@dataclass
class Waiting(Copying):
    """Says that rank 0 waited for a quarter of a second, and rank 1 for three."""

    model: Transformer
    poison: int = -1

    def backward(self, step: int, ranks: Ranks) -> Sums:
        return replace(super().backward(step, ranks), data_seconds=0.25 + 0.5 * ranks.rank)


def waiting(state: TrainState) -> Objective:
    return Waiting(state.model)


class Stop(Exception):
    """Stands for a kill: nothing is saved when it is raised."""


@dataclass
class StopAt(Copying):
    model: Transformer
    at: int
    poison: int = 7

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == self.at:
            raise Stop
        return Copying(self.model, self.poison).backward(step, ranks)


@dataclass
class LosesRankOne(Copying):
    """Rank 1 is killed in step `at`."""

    state: TrainState
    at: int = 13

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == self.at and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Copying(self.state.model).backward(step, ranks)


def context(folder: Path, processes: int = 1) -> RankContext:
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return RankContext(
        "t",
        folder,
        folder / "out",
        Parallel(processes=processes),
        Local(NullTracker(), NullTracker()),
        Local(_nothing, _nothing),
    )


def _nothing() -> None:
    return None


def run(folder: Path, stop: int = -1, steps: int = 30, every: int = 4, ranks: Ranks | None = None) -> TrainState:
    """Thirty steps of it, stopped before step `stop` if that is reached."""
    state = TrainState.fresh(Transformer(MODEL).initialise(1), OPTIM)
    plan = Plan(steps, lambda step, tokens: 3e-3 * (1 - step / steps), lambda step, tokens: 1.0, every)
    return fit(context(folder), ranks or Ranks(), state, StopAt(state.model, stop), plan)


def stage(
    root: Path,
    objective: Callable[[TrainState], Objective],
    steps: int = 30,
    every: int = 4,
    evaluator: Evaluator | None = None,
    world: int = 1,
    optim: Optim = OPTIM,
    tracker: Tracker | None = None,
    watch: Watch | None = None,
) -> Artifact:
    """The same training as a stage, by the way that every stage goes; its artifact holds the final state."""

    def work(attempt: Attempt) -> Outcome:
        context = RankContext.of(attempt, Parallel(processes=world), watch or Watch())
        tokens = run_ranks(world, 1, stage_on_rank, context, objective, steps, every, evaluator, optim)
        return Outcome(tokens=tokens)

    return Artifact.open(made(LocalStore(root), work, tracker=tracker or NullTracker()).uri)


def stage_on_rank(
    ranks: Ranks,
    context: RankContext,
    objective: Callable[[TrainState], Objective],
    steps: int,
    every: int,
    evaluator: Evaluator | None,
    optim: Optim,
) -> int:
    state = TrainState.fresh(Transformer(MODEL).initialise(1), optim)
    plan = Plan(steps, lambda step, tokens: 3e-3 * (1 - step / steps), lambda step, tokens: 1.0, every, 5 if evaluator else 0)
    fit(context, ranks, state, objective(state), plan, evaluator)
    if ranks.first:
        save_tensors(state.tensors(), context.out / "state.safetensors")
    return state.tokens


class Notes(NullTracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def plain(state: TrainState) -> Objective:
    return Copying(state.model)


def curves(artifact: Artifact) -> list[dict[str, float]]:
    """The log without what differs from run to run."""
    rows = [json.loads(line) for line in artifact.path("logs/curves.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "evaluation_seconds")} for row in rows]


def on_ranks(ranks: Ranks, folder: Path) -> list[float]:
    """The weights after ten steps; for run_ranks."""
    state = run(folder, steps=10, ranks=ranks)
    return [float(x) for x in state.optimizer.flat.values]


def fails_on_rank_one(ranks: Ranks, how: str) -> int:
    if ranks.rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("no such thing", where="rank 1")
    tensor = torch.ones(3)
    ranks.sum_(tensor)
    return int(tensor.sum())


def weave(ranks: Ranks) -> list[int]:
    mine = ranks.split(list(range(11)))
    return ranks.join(ranks.gather([10 * x for x in mine]))
