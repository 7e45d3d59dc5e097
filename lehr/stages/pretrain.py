"""Stage 1: pretraining from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lehr.config.base import NonNegative, Positive
from lehr.config.mix import Mix
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, Schedule
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import PretrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.planning.work import PlanPlace, Work, phase_work

if TYPE_CHECKING:
    from lehr.train.next_token import TrainingPhase


class PretrainConfig(PretrainingConfig):
    """Warm-up, then the schedule, on one mix."""

    model: Model
    mix: Mix
    tokens: Positive
    batch_size: Positive
    sequence_length: Positive
    optim: Optim
    schedule: Schedule
    batch_ramp: BatchRamp | None
    document_mask: bool
    mask_repeats: bool
    init_seed: NonNegative
    data_seed: NonNegative

    def phase(self) -> TrainingPhase:
        """What is read, how many tokens, the learning rate."""
        from lehr.train.next_token import TrainingPhase

        return TrainingPhase(
            self.mix, self.tokens, self.batch_size, self.sequence_length, self.optim, self.schedule, self.checkpoint_steps,
            self.data_seed, self.batch_ramp, self.document_mask, self.mask_repeats,
        )  # fmt: skip


ROLES = {"shards": Role("shards"), "documents": Role("documents"), "tokenizer": Role("tokenizer")}


def run(config: PretrainConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train from random weights."""
    from lehr.train.pretraining import pretrain

    return pretrain(config, config.phase(), config.model, config.init_seed, inputs, attempt)


def plan(node: Node, place: PlanPlace) -> Work:
    """Its tokens and steps are exact, not estimated."""
    c: PretrainConfig = node.config  # type: ignore[assignment]
    return phase_work(
        node.name, place.model, c.tokens, (c.batch_size, c.sequence_length, c.batch_ramp), 0, c.optim.lr, c.schedule
    )


SPEC = StageSpec(
    "pretrain",
    PretrainConfig,
    ROLES,
    "checkpoint",
    "ranked",
    "pretraining",
    run,
    total_steps=lambda config, inputs: config.phase().steps,
    plan=plan,
)
