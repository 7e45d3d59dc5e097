"""Mid-training: the ramp and the anneals, which continue from a pretrained checkpoint (OLMo 2 section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lehr.artifacts.artifact import Artifact
from lehr.config.base import NonNegative, Positive
from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import ConstantSchedule, Schedule
from lehr.optim.schedule import anneal_schedule
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import PretrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.planning.work import PlanPlace, Work, phase_work
from lehr.stages.pretrain import ROLES

if TYPE_CHECKING:
    from lehr.train.next_token import TrainingPhase


class MidtrainConfig(PretrainingConfig):
    """Starts at the learning rate at which the parent ended, and holds it (the ramp) or decays it to zero (an anneal). Batch
    size, sequence length and optimiser are the parent's too, read from its record; `rollbacks`: its guard may roll back."""

    mix: Mix
    tokens: Positive
    decay: Literal["constant", "linear", "exponential"]
    data_seed: NonNegative
    rollbacks: bool

    @property
    # Told by the recipe: the parent's optimiser is in the parent's record, which `described` does not see.
    def goes_back(self) -> bool:
        return self.rollbacks

    @property
    def schedule(self) -> Schedule:
        """The schedule, relative to the parent's last learning rate."""
        return ConstantSchedule(kind="constant") if self.decay == "constant" else anneal_schedule(self.decay, self.tokens)

    def phase(self, parent: Artifact) -> TrainingPhase:
        """What is read, how many tokens, the learning rate. Raises UserError for a parent that cannot be continued."""
        from lehr.train.checkpointing.checkpoint import load_training
        from lehr.train.next_token import TrainingPhase

        training = load_training(parent)
        optim = Optim.model_validate({**training["optim"], "lr": training["lr"]})
        return TrainingPhase(
            self.mix, self.tokens, training["batch_size"], training["sequence_length"], optim, self.schedule,
            self.checkpoint_steps, self.data_seed, None, training["document_mask"], training["mask_repeats"],
        )  # fmt: skip


def run(config: MidtrainConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train from the parent's weights and optimiser state. The seed decides the data order and nothing else."""
    from lehr.train.checkpointing.checkpoint import load_architecture
    from lehr.train.pretraining import pretrain

    parent = inputs["parent"]
    return pretrain(config, config.phase(parent), load_architecture(parent), 0, inputs, attempt)  # 0: no weights are drawn


def plan(node: Node, place: PlanPlace) -> Work:
    """Sibling anneals all start at their parent's end."""
    c: MidtrainConfig = node.config  # type: ignore[assignment]
    start, rate, batch = place.end_of(node.inputs["parent"][0])
    return phase_work(node.name, place.model, c.tokens, (*batch, None), start, rate, c.schedule)


SPEC = StageSpec(
    "midtrain",
    MidtrainConfig,
    {**ROLES, "parent": Role("checkpoint")},
    "checkpoint",
    "ranked",
    "pretraining",
    run,
    total_steps=lambda config, inputs: config.phase(inputs["parent"]).steps,
    plan=plan,
)
