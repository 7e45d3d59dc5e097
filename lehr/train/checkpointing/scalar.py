"""Checkpoints of value and reward models. Not in `checkpoint.py`, so that pretraining's fingerprint does not depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lehr.artifacts.artifact import Artifact
from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.model.scalar import ScalarModel
from lehr.train.checkpointing.checkpoint import load_model, save_checkpoint


@dataclass(frozen=True)
class LoadedScalar:
    """A value or reward model's checkpoint in memory."""

    model: ScalarModel
    tokenizer: Tokenizer
    architecture: Model


def save_scalar(folder: Path, config: Model, weights: dict[str, Tensor], tokenizer: Path, *, chat: bool = True) -> None:
    """Write a checkpoint's files; `weights` are fp32 by name. `chat`: the model reads text rendered by the chat template."""
    save_checkpoint(folder, config, weights, tokenizer, chat=chat, head="scalar")


def load_scalar(artifact: Artifact) -> LoadedScalar:
    """Load the model in fp32. Raises UserError if files are damaged, if tokenizer and model do not belong together, or if the
    checkpoint is a language model's."""
    model, tokenizer, _ = load_model(artifact, "scalar", ScalarModel)
    return LoadedScalar(model, tokenizer, model.config)
