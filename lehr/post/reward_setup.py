"""The reward models that a step's answers are judged by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import Artifact
from lehr.model.scalar import ScalarModel
from lehr.post.rewards.agreement import check_reads
from lehr.post.tuning import Setup
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.scalar import load_scalar


def reward_weights(c: Any) -> dict[str, float]:
    """The weight of each of a step's reward models, by its name in the state."""
    return {f"reward-{number}": weight for number, weight in enumerate(c.reward_weights)}


def freeze_rewards(setup: Setup, names: Iterable[str]) -> None:
    """Put the step's reward models into its state, where they stay as they are. Raises UserError as `scalar_model` does."""
    for name, folder in zip(names, setup.several["rewards"], strict=True):
        setup.state.frozen[name] = scalar_model(setup, folder)


def scalar_model(setup: Setup, folder: Path) -> ScalarModel:
    """The reward model in `folder`, on the policy's device. Raises UserError if it reads other tokens or fewer of them, and as
    `load_scalar` does."""
    policy, model = setup.loaded, load_scalar(Artifact.open(folder, verify=False)).model
    check_reads(folder.name, folder, policy.tokenizer, setup.context.name)
    if model.config.max_seq_len < policy.model.config.max_seq_len:
        raise UserError(
            f"{setup.context.name}: this reward model reads {model.config.max_seq_len} tokens, the model in training "
            f"{policy.model.config.max_seq_len}",
            where=folder,
            remedy="train it from a model of the same run",
        )
    return model.to(policy.model.cos.device)
