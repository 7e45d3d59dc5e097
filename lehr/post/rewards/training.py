"""A reward model on ranks: a scalar head on the parent, trained on pairs or ratings, judged on held-out pairs. Its checkpoint
has the head `scalar`, whatever it learned from: a weighted sum of aspects is one head too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lehr.artifacts.artifact import Artifact, write_atomic
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.model.lora import adapt
from lehr.model.scalar import ScalarModel
from lehr.optim.schedule import by_steps
from lehr.post.pairs import read_pairs
from lehr.post.preference import RenderedPair
from lehr.post.rendered import Rendered
from lehr.post.rewards.data import HeldOutPairs, held_out_pairs, read_ratings
from lehr.post.rewards.judging import Judged, correlation
from lehr.post.rewards.objectives import Aspects, BradleyTerry, Rewarding
from lehr.post.rewards.rows import all_numbers, with_head
from lehr.runtime import seeds
from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Plan
from lehr.train.state import MAIN, TrainState

REWARD = "reward.json"
HEAD = "score.weight"


@dataclass(frozen=True)
class Training:
    """What every rank is given: `config` is a lehr.stages.reward_model.RewardModelConfig, `data` the folder of its pairs."""

    config: Any
    context: RankContext
    parent: Path
    data: Path


def train_reward(ranks: Ranks, work: Training) -> dict[str, Any]:
    """Train, write the checkpoint and what it is worth on held-out pairs; returns that with the tokens seen."""
    c = work.config
    loaded = load_checkpoint(Artifact.open(work.parent, verify=False))
    model = with_head(loaded.model, len(c.aspects) or 1, seeds.derive(c.seed, "head")).to(own_device(ranks))
    if c.lora:
        adapt(model, c.lora, seeds.derive(c.seed, "adapters"))
    tokenizer, architecture = loaded.tokenizer, loaded.architecture
    del loaded
    state = TrainState.fresh(model, c.optim)  # in fp32, as every step of post-training
    plan = Plan(
        c.steps,
        lambda step, _tokens: by_steps(c.schedule, c.optim.lr, step, c.steps),
        lambda _step, _tokens: c.optim.clip_norm,
        c.checkpoint_steps,
    )
    fit(work.context, ranks, state, _objective(work, model, tokenizer), plan)
    weights, own = state.weights(), state.named(MAIN, ScalarModel)
    found: dict[str, Any] = {"loss": c.loss}
    if c.aspects:
        found["aspects"] = _aspects(work, own, tokenizer, ranks)
        weights, own = _collapsed(weights, own, c.aspects)
    if (pairs := held_out_pairs(work.data, tokenizer)) is not None:
        found |= judge(own, pairs, ranks)
    if ranks.first:
        save_checkpoint(work.context.out, architecture, weights, tokenizer, chat=True, head="scalar")
        write_atomic(work.context.out / REWARD, json.dumps(found, indent=1, sort_keys=True))
    return {**found, "tokens": state.tokens}


def _objective(work: Training, model: ScalarModel, tokenizer: Tokenizer) -> BradleyTerry | Aspects:
    c = work.config
    settings = Rewarding(c.batch_size, c.seed, c.centre)
    if c.aspects:
        rated = read_ratings(work.data, "train", list(c.aspects), tokenizer)
        return Aspects(model, rated.answers, rated.ratings_RK, settings)
    return BradleyTerry(model, read_pairs(work.data, "train", tokenizer), settings)


def _collapsed(
    weights: Mapping[str, Tensor], model: ScalarModel, aspects: Mapping[str, float]
) -> tuple[dict[str, Tensor], ScalarModel]:
    """The same weights with one head in place of several: a weighted sum of linear heads is a linear head."""
    shares = torch.tensor(list(aspects.values()))
    whole = {**weights, HEAD: shares[None] @ weights[HEAD].cpu()}
    one = ScalarModel(model.config).to(model.cos.device)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            parameter.copy_(whole[name])
    return whole, one


def judge(model: ScalarModel, held_out: HeldOutPairs, ranks: Ranks) -> dict[str, Any]:
    """What `model` is worth on these pairs, computed by all ranks: see Judged."""
    rewards_N = shared_numbers(model, sides_of(held_out.pairs), ranks)[:, 0]
    return said_of(held_out, rewards_N.numpy())


def sides_of(pairs: Sequence[RenderedPair]) -> list[Rendered]:
    """Each pair's chosen answer, then its rejected one."""
    return [side for pair in pairs for side in (pair.chosen, pair.rejected)]


def said_of(held_out: HeldOutPairs, rewards_N: np.ndarray) -> dict[str, Any]:
    """Judged by the rewards of `sides_of` the pairs."""
    lengths_N = np.array([sum(side.mask) for side in sides_of(held_out.pairs)])
    rewards_B2, lengths_B2 = (x.astype(np.float64).reshape(-1, 2) for x in (rewards_N, lengths_N))
    return Judged(rewards_B2, lengths_B2, held_out.domains, held_out.prompts).said()


def shared_numbers(model: ScalarModel, rows: Sequence[Rendered], ranks: Ranks) -> Tensor:
    """`all_numbers`, of which each rank computes its share."""
    mine = all_numbers(model, ranks.split(list(rows)))
    return torch.tensor(ranks.join([part.tolist() for part in ranks.gather(mine)])).view(len(rows), -1)


def _aspects(work: Training, model: ScalarModel, tokenizer: Tokenizer, ranks: Ranks) -> dict[str, Any]:
    """By aspect: its weight, and on held-out answers the distance from the rating and the correlation with it."""
    names = list(work.config.aspects)
    rated = read_ratings(work.data, "held_out", names, tokenizer)
    found_RK = shared_numbers(model, rated.answers, ranks).numpy() if rated.answers else np.zeros((0, len(names)))
    told_RK = rated.ratings_RK.numpy()
    said = {}
    for k, name in enumerate(names):
        away = np.abs(found_RK[:, k] - told_RK[:, k])
        said[name] = {
            "weight": work.config.aspects[name], "answers": len(away), "error": float(away.mean()) if len(away) else None,
            "correlation": correlation(found_RK[:, k], told_RK[:, k]),
        }  # fmt: skip
    return said
