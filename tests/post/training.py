"""Tiny GRPO runs, by the way that every stage goes; module-level so that other ranks can import them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lehr.config.lora import Lora
from lehr.config.model import Model
from lehr.config.optim import Guard, Optim
from lehr.config.parallel import Parallel
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Local, Ranks
from lehr.model.generate import LanguageModel
from lehr.model.lora import adapt
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.brain import BrainObjective, BrainSettings
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.ppo import Controller, PpoSettings
from lehr.post.ppo_objective import PpoObjective
from lehr.post.prompts import reference_of
from lehr.post.rewards.scored import Rewards, Weighed
from lehr.post.rewards.scorers import ByModel
from lehr.post.rollout import RollOut
from lehr.runtime.ports import NullTracker
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Objective, Pace, Plan, Sums
from lehr.train.losses import IGNORE
from lehr.train.state import Trained, TrainState

TOKENIZER = Tokenizer.train(["the quick brown fox " * 30], 300)
MODEL = Model(vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=32, init_std=0.3)
OPTIM = Optim(lr=0.02, clip_norm=0.5, guard=Guard(window=16, sigmas=6.0))
VALUE_OPTIM = Optim(lr=0.05, clip_norm=2.0, guard=Guard(window=16, sigmas=6.0))
SETTINGS = GrpoSettings(prompts=4, samples=4, temperature=1.0, max_new_tokens=5, clip_low=0.2, clip_high=0.28, kl=0.05)
PPO = PpoSettings(4, 4, 1.0, 5, Controller(0.05, target=0.5, horizon=100.0), value_clip=0.05)
BRAIN = BrainSettings(2, 4, 1.0, 5, beta=0.5, refresh=3)
Make = Callable[[TrainState, LanguageModel], Objective]


def prompts() -> list[Prompt]:
    """Six prompts of several lengths; low ids are paid for, and ends more so."""

    def reward(ids: list[int], finished: bool) -> float:
        return float(ids[0] < 150) + 0.5 * finished

    return [Prompt(list(range(9, 11 + n)), reward) for n in range(6)]


def settings(**changes: Any) -> GrpoSettings:
    return replace(SETTINGS, **changes)


def fresh(optim: Optim = OPTIM, lora: Lora | None = None) -> tuple[TrainState, LanguageModel]:
    """A policy in training, with its reference."""
    policy = LanguageModel(Transformer(MODEL).initialise(1), TOKENIZER, chat=True)
    if lora:
        adapt(policy.model, lora, seed=5)
    state = TrainState.fresh(policy.model, optim)
    state.frozen["reference"] = reference_of(policy.model)
    return state, policy


def with_value(state: TrainState) -> TrainState:
    """A second trained model, on the policy's backbone."""
    state.models["value"] = Trained.fresh(ScalarModel.on(state.model), VALUE_OPTIM)
    return state


def with_rewards(state: TrainState, *names: str) -> TrainState:
    """Frozen reward models of random weights."""
    for seed, name in enumerate(names, 11):
        state.frozen[name] = ScalarModel.on(Transformer(MODEL).initialise(seed), seed=seed)
    return state


def liked(state: TrainState, changes: dict[str, Any]) -> Rewards:
    """A reward model, and less than any for an answer without an end."""
    judge = ByModel(with_rewards(state, "liked").named("liked", ScalarModel))
    return Rewards([Weighed(judge, 0.3)], changes.pop("normalised", False), changes.pop("no_end_reward", -0.5))


def ppo(state: TrainState, policy: LanguageModel, **changes: Any) -> PpoObjective:
    """PPO with a value model that begins as a reward model, on verifiers and a reward model."""
    sampler, kind = changes.pop("sampler", None), changes.pop("kind", PpoObjective)
    if "value" not in state.models:
        value = with_rewards(TrainState({}), "value").named("value", ScalarModel)
        state.models["value"] = Trained.fresh(value, VALUE_OPTIM)
    changes["rewards"] = liked(state, changes)
    made: PpoObjective = kind(state, policy, prompts(), replace(PPO, **changes), 3, sampler)
    return made


def brain(state: TrainState, policy: LanguageModel, **changes: Any) -> BrainObjective:
    """BRAIn on verifiers and a reward model."""
    sampler, kind = changes.pop("sampler", None), changes.pop("kind", BrainObjective)
    changes["rewards"] = liked(state, changes)
    made: BrainObjective = kind(state, policy, prompts(), replace(BRAIN, **changes), 3, sampler)
    return made


def plan(state: TrainState, steps: int, every: int) -> Plan:
    paces = {"value": Pace(lambda step, _: 0.05 / (1 + step), lambda *_: VALUE_OPTIM.clip_norm)}
    return Plan(
        steps, lambda step, _: 0.02 * (1 - step / steps), lambda *_: OPTIM.clip_norm, every,
        models={name: paces[name] for name in state.further},
    )  # fmt: skip


class WithValue(GrpoObjective):
    """GRPO, and a value model that learns a growing share of the rewards from the same rows: what PPO asks of the engine."""

    def learn(self, r: RollOut) -> Sums:
        sums = super().learn(r)
        sums.models = {"value": self.value_loss(r) if len(r) else (0.0, 0.0)}
        return sums

    def value_loss(self, r: RollOut) -> tuple[float, float]:
        state = self.roll_outs.state
        value, answer_BT = state.named("value", ScalarModel), r.labels_BT != IGNORE
        share = state.carried["share"] = state.carried.get("share", torch.tensor(0.5)) * 1.01
        loss = ((value.values(r.tokens_BT) - share * r.rewards_B[:, None]).square() * answer_BT).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), float(answer_BT.sum())


def train(
    folder: Path,
    ranks: Ranks,
    make: Make,
    steps: int = 6,
    every: int = 100,
    value: bool = False,
    lora: Lora | None = None,
) -> tuple[TrainState, list[dict[str, float]]]:
    """`steps` of it, with the log."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    nothing = Local(_nothing, _nothing)
    tracker, parallel = Local(NullTracker(), NullTracker()), Parallel(processes=ranks.world)
    context = RankContext("t", folder, folder / "out", parallel, tracker, nothing)
    state, policy = fresh(lora=lora)
    if value:
        with_value(state)
    objective = make(state, policy)
    fit(context, ranks, state, objective, plan(state, steps, every))
    rows = (folder / "curves.jsonl").read_text().splitlines() if ranks.first else []
    return state, [{k: v for k, v in json.loads(row).items() if k != "seconds"} for row in rows]


def _nothing() -> None:
    return None


class Sampled:
    """Samples from the policy and keeps which steps it was told of; `at` that step it fails instead."""

    def __init__(self, policy: LanguageModel, at: int = -1) -> None:
        self.policy, self.at, self.followed = policy, at, list[int]()

    def follow(self, step: int) -> None:
        self.followed.append(step)
        if step == self.at:
            raise Stop

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        return self.policy.generate(prompts, max_new_tokens, stop_ids, temperature, seed)


class Stop(Exception):
    """Stands for a kill: nothing is saved when it is raised."""


def weights(state: TrainState) -> torch.Tensor:
    return state.whole.flat.values.clone()
