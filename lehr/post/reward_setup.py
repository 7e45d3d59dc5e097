"""The rewards by which a step's answers are judged."""

from __future__ import annotations

from pathlib import Path

from lehr.artifacts.artifact import Artifact
from lehr.model.scalar import ScalarModel
from lehr.post.rewards.agreement import check_reads
from lehr.post.rewards.scored import Rewards, Weighed
from lehr.post.rewards.scorers import Source, check_agrees, load_scorer, sources_of
from lehr.post.tuning import Setup
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.scalar import load_scalar


def rewards_of(setup: Setup) -> Rewards:
    """The step's rewards, on this rank's device. Raises UserError for one that reads other tokens than the policy writes, or
    fewer of them, and for a checkpoint with another head than its place needs."""
    c = setup.config
    weighed = [_weighed(setup, source) for source in sources_of(c.rewards, setup.several["rewards"])]
    return Rewards(weighed, c.normalised_rewards, c.no_eos_reward)


def _weighed(setup: Setup, source: Source) -> Weighed:
    check_agrees(source, setup.loaded.tokenizer, setup.context.name)
    scorer = load_scorer(source, setup.ranks)
    _check_length(setup, scorer.most_tokens, source.folders[0])
    return Weighed(scorer, source.weight)


def scalar_model(setup: Setup, folder: Path) -> ScalarModel:
    """The reward model in `folder`, from which a value model begins, on the policy's device. Raises UserError if it reads other
    tokens or fewer of them, and as `load_scalar` does."""
    model = load_scalar(Artifact.open(folder, verify=False)).model
    check_reads(folder.name, folder, setup.loaded.tokenizer, setup.context.name)
    _check_length(setup, model.config.max_seq_len, folder)
    return model.to(setup.loaded.model.cos.device)


def _check_length(setup: Setup, most: int, folder: Path) -> None:
    ours = setup.loaded.model.config.max_seq_len
    if most < ours:
        raise UserError(
            f"{setup.context.name}: this reward model reads {most} tokens, the model in training {ours}",
            where=folder,
            remedy="train it from a model of the same run",
        )
