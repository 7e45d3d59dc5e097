"""The reward models that a step's answers are judged by."""

from __future__ import annotations

from pathlib import Path

from lehr.artifacts.artifact import Artifact
from lehr.model.scalar import ScalarModel
from lehr.post.tuning import Setup
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.scalar import load_scalar


def frozen_rewards(setup: Setup) -> dict[str, float]:
    """Put the step's reward models into its state, frozen; their names there with their weights. Raises UserError as
    `scalar_model` does."""
    weights = {}
    for number, (folder, weight) in enumerate(zip(setup.several["rewards"], setup.config.reward_weights, strict=True)):
        setup.state.frozen[f"reward-{number}"] = scalar_model(setup, folder)
        weights[f"reward-{number}"] = weight
    return weights


def scalar_model(setup: Setup, folder: Path) -> ScalarModel:
    """The reward model in `folder`, on the policy's device."""
    loaded, policy = load_scalar(Artifact.open(folder, verify=False)), setup.loaded
    model, ours, theirs = loaded.model, policy.tokenizer, loaded.tokenizer
    if (theirs.hash, theirs.chat_template) != (ours.hash, ours.chat_template):
        what = "tokenizer" if theirs.hash != ours.hash else "chat template"
        raise UserError(
            f"{setup.context.name}: this reward model has another {what} than the model in training",
            where=folder,
            remedy="train it from a model of the same run, after the same step of sft",
        )
    if model.config.max_seq_len < policy.model.config.max_seq_len:
        raise UserError(
            f"{setup.context.name}: this reward model reads {model.config.max_seq_len} tokens, the model in training "
            f"{policy.model.config.max_seq_len}",
            where=folder,
            remedy="train it from a model of the same run",
        )
    return model.to(policy.model.cos.device)
