"""Seeded runs of GRPO with a value model beside the policy, and of PPO, with and without adapters, with several updates a
roll-out, killed as in tests/train/killing.py.

python -m tests.post.killing METHOD FOLDER FIRST LAST      one JSON line a case; METHOD is grpo, brain, ppo or ppo-lora
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.tensors import save_tensors
from lehr.config.lora import Lora
from lehr.config.optim import Rollback
from lehr.config.parallel import Parallel
from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.post.brain import BrainObjective
from lehr.post.grpo import GrpoSettings
from lehr.post.ppo_objective import PpoObjective, PpoRollOut
from lehr.post.rollout import RollOut
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Sums
from lehr.train.state import TrainState
from tests.post import training
from tests.staging import made
from tests.train.killing import Kill, compared, die, kill_the_writer

STEPS = 18
KINDS = ("draw", "between", "write", "record", "time")


@dataclass(frozen=True)
class Case:
    """Drawn from its number: how often it saves, how a roll-out is used, which steps are bad in which model and whether they
    may lead to a rollback, and where each attempt but the last is killed."""

    every: int
    settings: GrpoSettings
    bad: frozenset[int]
    whose: str
    rollback: Rollback | None
    kills: tuple[Kill, ...]

    @classmethod
    def draw(cls, number: int) -> Case:
        rng = random.Random(number)
        first = rng.randrange(6, STEPS - 3)
        epochs, mini_batches = rng.choice([(1, 2), (2, 1), (2, 2), (3, 2)])
        return cls(
            every=rng.randint(1, 5),
            settings=training.settings(epochs=epochs, mini_batches=mini_batches),
            bad=frozenset(range(first, first + rng.choice([1, 3]))),
            whose=rng.choice(["model", "value"]),
            rollback=rng.choice([None, Rollback(after=2, limit=1, before=2)]),
            kills=(
                (rng.choice(KINDS[:2]), rng.random() / 2),
                *((rng.choice(KINDS), rng.random()) for _ in range(rng.randint(0, 2))),
            ),
        )


class Killed:
    """Beside an objective: it dies when a roll-out is drawn and not yet kept, or between the two models' backward passes, and
    makes bad gradients."""

    state: TrainState
    case: Case
    kill: Kill = ("", 0.0)
    left: int = 0

    def told(self, state: TrainState, case: Case, kill: Kill) -> None:
        self.state, self.case, self.kill = state, case, kill
        self.left = int(kill[1] * (STEPS // case.settings.updates.count if kill[0] == "draw" else STEPS))

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums: Sums = super().backward(step, ranks)  # type: ignore[misc]
        if step in self.case.bad:
            whose = self.case.whose if self.case.whose in self.state.models else "model"  # BRAIn has one
            self.state.models[whose].whole.flat.grads.mul_(float("nan"))
        return sums

    def draw(self, number: int, step: int, ranks: Ranks) -> Any:
        drawn = super().draw(number, step, ranks)  # type: ignore[misc]
        self.strike("draw")
        return drawn

    def strike(self, kind: str) -> None:
        self.left -= self.kill[0] == kind
        if self.left < 0:
            die()


class KilledGrpo(Killed, training.WithValue):
    def value_loss(self, r: RollOut) -> tuple[float, float]:
        self.strike("between")
        return super().value_loss(r)


class KilledPpo(Killed, PpoObjective):
    """With a coefficient that adapts, so that it is carried."""

    def learn_values(self, r: PpoRollOut) -> tuple[float, float]:
        self.strike("between")
        return super().learn_values(r)


class KilledBrain(Killed, BrainObjective):
    """With a proposal that serves as many steps as the case's roll-outs do."""

    def learn(self, r: RollOut) -> Sums:
        self.strike("between")
        return super().learn(r)


def objective(method: str, case: Case, state: TrainState, policy: LanguageModel) -> KilledGrpo | KilledBrain | KilledPpo:
    if method == "brain":
        made: KilledBrain = training.brain(  # type: ignore[assignment]
            state, policy, kind=KilledBrain, refresh=case.settings.updates.count
        )
        return made
    if method == "grpo":
        training.with_value(state)
        return KilledGrpo(state, policy, training.prompts(), case.settings, 3)
    own = {"epochs": case.settings.epochs, "mini_batches": case.settings.mini_batches}
    found: KilledPpo = training.ppo(state, policy, kind=KilledPpo, **own)  # type: ignore[assignment]
    return found


def attempt(method: str, case: Case, root: Path, kill: Kill) -> None:
    """One attempt at the case's stage."""
    torch.set_num_threads(1)
    kill_the_writer(kill, STEPS // case.every)

    def work(attempt: Attempt) -> Outcome:
        guard = training.OPTIM.guard.model_copy(update={"rollback": case.rollback})
        lora = Lora(rank=2) if method == "ppo-lora" else None
        state, policy = training.fresh(training.OPTIM.model_copy(update={"guard": guard}), lora)
        killed = objective(method, case, state, policy)
        killed.told(state, case, kill)
        fit(RankContext.of(attempt, Parallel()), Ranks(), state, killed, training.plan(state, STEPS, case.every))
        save_tensors(state.tensors(), attempt.out / "state.safetensors")
        return Outcome(tokens=state.tokens)

    made(LocalStore(root), work)


def trial(method: str, number: int, folder: Path) -> dict[str, Any]:
    """What `compared` says of the case, and how many saves held a roll-out."""
    case = Case.draw(number)
    found = compared(folder, partial(attempt, method, case), case.kills)
    used = case.settings.updates.count
    return {"case": number, **found, "spans": sum(step % used > 0 for step in range(case.every, STEPS, case.every))}


def main(method: str, folder: Path, first: int, last: int) -> None:
    for number in range(first, last):
        print(json.dumps(trial(method, number, folder / str(number))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
