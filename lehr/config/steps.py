"""What every step of post-training has, and those that train by gradients."""

from __future__ import annotations

import math

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive, Reported
from lehr.config.lora import Lora
from lehr.config.names import StepName
from lehr.config.optim import Optim
from lehr.config.schedule import StepSchedule


class Step(Config):
    """The keys of every step."""

    name: StepName  # of its model, in scores and files; by default the kind
    parent: str = ""  # name of the model from which it starts; by default the one before
    processes: NonNegative = 0  # of the step; 0: as many as parallel.processes
    supply: str = ""  # data held by others that must be supplied before it can run
    reported: Reported = {}  # facts about a released model that no code uses


class TuningOptim(Optim):
    """AdamW for post-training: by default without weight decay and z-loss."""

    weight_decay: NonNegativeFloat = 0.0
    z_loss: NonNegativeFloat = 0.0


class Tuning(Step):
    """A step that trains by gradients. Its length is `steps`, or follows from `epochs` over `samples`."""

    optim: TuningOptim
    schedule: StepSchedule = StepSchedule()
    steps: NonNegative = 0
    epochs: NonNegativeFloat = 0.0
    samples: NonNegative = 0  # examples, pairs or prompts in one epoch
    batch_size: NonNegative = 0  # conversations, pairs or prompts; 0: not given
    batch_tokens: NonNegative = 0  # instead of batch_size, if batches are filled up to so many tokens
    max_length: NonNegative = 0  # tokens of a row; 0: the model's length
    lora: Lora | None = None  # train low-rank adapters alone; the model that is written has them merged
    checkpoint_steps: Positive = 20

    @property
    def total_steps(self) -> int:
        """Optimiser steps; 0 if neither `steps` nor the keys for computing it are given."""
        if self.steps or not self.batch_size:
            return self.steps
        return math.ceil(self.samples * (self.epochs or 1.0) / self.batch_size)
