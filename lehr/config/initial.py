"""The start of a run that does not pretrain from scratch."""

from __future__ import annotations

from pydantic import model_validator

from lehr.config.base import Config, NonNegative


class BaseTraining(Config):
    """The checkpoint's own record of its training; filled in when the recipe is resolved."""

    lr: float
    batch_size: NonNegative
    sequence_length: NonNegative


class Base(Config):
    """An existing model in place of `stage1`: another run's checkpoint, or a Hugging Face folder."""

    checkpoint: str = ""  # an artifact's folder or s3:// address, as `lehr show` prints it
    huggingface: str = ""  # a folder with config.json, safetensors and tokenizer.json
    training: BaseTraining | None = None  # read from the checkpoint; a Hugging Face folder has none

    @model_validator(mode="after")
    def _one(self) -> Base:
        if bool(self.checkpoint) == bool(self.huggingface):
            raise ValueError("base: give either checkpoint or huggingface; a run begins with one model")
        return self
