"""What the configurations of GRPO, PPO and BRAIn share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lehr.config.base import NonNegative, Positive, PositiveFloat
from lehr.config.lora import Lora
from lehr.config.optim import Optim
from lehr.config.sampler import SamplerElsewhere
from lehr.config.schedule import StepSchedule
from lehr.pipeline.ranked import TrainingConfig
from lehr.post.verifiers import verifier


class RollOutConfig(TrainingConfig):
    """A step that samples answers while it trains; `batch_size` counts prompts."""

    families: list[str]
    optim: Optim
    schedule: StepSchedule
    steps: Positive
    batch_size: Positive
    max_length: NonNegative
    samples_per_prompt: Positive
    temperature: PositiveFloat
    max_new_tokens: Positive
    bonus: dict[str, float]
    seed: NonNegative
    lora: Lora | None = None
    sampler: SamplerElsewhere | None = None

    def described(self) -> dict[str, Any]:
        """Which engine answers counts, as each samples in its own way; where it is does not."""
        return {**super().described(), "sampler": self.sampler.engine if self.sampler else ""}

    def uses(self) -> list[Callable[..., Any]]:
        return [verifier(name) for name in self.bonus if ":" in name]  # built-in ones are reached by the work's imports
