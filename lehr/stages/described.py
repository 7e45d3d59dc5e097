"""Steps that this version can plan but not run: kinds that are not implemented, and steps whose data are not at hand."""

from __future__ import annotations

from lehr.config.base import NonNegative, NonNegativeFloat
from lehr.config.posttraining import PpoStep, Step, Tuning
from lehr.config.schedule import StepSchedule
from lehr.model.size import flops_per_token
from lehr.pipeline.node import Node
from lehr.pipeline.spec import Role, StageConfig, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.work import PlanPlace, Work, steps_rate

_SIDES = {"dpo": 2, "reward_model": 2}  # sequences in an example: a pair has two


class DescribedConfig(StageConfig):
    """What is known about the step's length; 0 for unknown."""

    step_kind: str
    steps: NonNegative = 0
    batch_size: NonNegative = 0
    batch_tokens: NonNegative = 0
    max_length: NonNegative = 0
    lr: NonNegativeFloat = 0.0
    schedule: StepSchedule = StepSchedule()


def expand(step: Step, place: StepContext) -> list[Node]:
    """One node, of a kind that cannot be run."""
    kind = str(getattr(step, "kind", ""))
    config = DescribedConfig(step_kind=kind)
    if isinstance(step, Tuning):
        config = DescribedConfig(
            step_kind=kind, steps=step.total_steps, batch_size=_rows(step), batch_tokens=step.batch_tokens,
            max_length=step.max_length, lr=step.optim.lr if step.optim else 0.0, schedule=step.schedule,
        )  # fmt: skip
    return [Node(step.name, "described", config, {"parent": (place.parent,)})]


def _rows(step: Tuning) -> int:
    """Examples of one update: of PPO's roll-out those of a mini-batch, with all samples of a prompt."""
    if isinstance(step, PpoStep):
        return step.batch_size * step.samples_per_prompt // step.mini_batches
    return step.batch_size


def plan(node: Node, place: PlanPlace) -> Work | None:
    """An upper bound of its tokens, if its length is known."""
    c: DescribedConfig = node.config  # type: ignore[assignment]
    step_tokens = c.batch_tokens or c.batch_size * _SIDES.get(c.step_kind, 1) * c.max_length
    if not c.steps or not step_tokens:
        return None
    length = c.max_length or place.model.max_seq_len
    tokens, batch = step_tokens * c.steps, c.batch_size or max(1, c.batch_tokens // length)
    flops, rate = flops_per_token(place.model, length) * tokens, steps_rate(c.schedule, c.lr, c.steps, tokens)
    return Work(node.name, c.step_kind, tokens, c.steps, length, flops, place.after, rate, ((0, batch),), "at most")


SPEC = StageSpec(
    "described",
    DescribedConfig,
    {"parent": Role("checkpoint")},
    "checkpoint",
    "ranked",
    "post-training",
    None,
    expand=expand,
    plan=plan,
)
