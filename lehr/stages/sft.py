"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive
from lehr.config.chat import ConversationsSource
from lehr.config.lora import Lora
from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.posttraining import Replaying, SftStep
from lehr.config.schedule import StepSchedule
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import sft_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.post.templates import resolved
from lehr.runtime.errors import UserError
from lehr.stages.conversations import ConversationsConfig


class ReplayConfig(Config):
    """`rows` windows of pretraining text in each batch, of `sequence_length` tokens."""

    mix: Mix
    rows: Positive
    sequence_length: Positive

    @property
    def tokens(self) -> int:
        """Of a batch."""
        return self.rows * self.sequence_length


class SftConfig(TrainingConfig):
    """Loss on the assistant's tokens only. Without `steps` there are as many as `epochs` over the rows make. A batch has
    `batch_size` conversations, or as many as fill `batch_tokens`. `max_length` 0 is the model's own length; `template` is
    what lehr.post.templates.resolved made of the recipe's."""

    optim: Optim
    schedule: StepSchedule
    steps: NonNegative
    epochs: NonNegativeFloat
    batch_size: NonNegative
    batch_tokens: NonNegative
    max_length: NonNegative
    loss: Literal["mean", "sum"]
    replay: ReplayConfig | None
    seed: NonNegative
    lora: Lora | None = None
    template: str = ""


def run(config: SftConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent on conversations."""
    from lehr.post.conversations import sft_objective
    from lehr.post.tuning import tune

    return tune(config.model_copy(update={"steps": _steps(config, inputs)}), sft_objective, inputs, attempt)


def _steps(config: SftConfig, inputs: Inputs) -> int:
    from lehr.post.conversations import sft_steps

    return sft_steps(config, inputs["rows"].folder)


def replay_of(step: Replaying, place: StepContext) -> ReplayConfig | None:
    """The pretraining text in a step's batches, if it wants any. Raises UserError if the length of its windows is unknown."""
    if not step.replay_rows:
        return None
    if not place.window_tokens:
        key = f"posttraining.{step.name}.replay_rows"
        raise UserError(f"{key}: its base does not record its sequence length", remedy="leave replay_rows out")
    return ReplayConfig(mix=place.mixes[step.replay_mix], rows=step.replay_rows, sequence_length=place.window_tokens)


def expand(step: SftStep, place: StepContext) -> list[Node]:
    """The node of the conversations, and that of the model tuned on them. Raises UserError for a set that is neither a source
    nor a chat family, for replay without a known sequence length, and for a file that is no
    chat template."""
    replay = replay_of(step, place)
    config = SftConfig(
        optim=step.optim, schedule=step.schedule, steps=step.total_steps, epochs=step.epochs or 1.0, batch_size=step.batch_size,
        batch_tokens=step.batch_tokens, max_length=step.max_length, loss=step.loss, replay=replay, seed=place.seed(step.name),
        lora=step.lora, checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
        template=resolved(place.chat),
    )  # fmt: skip
    rows = _rows(step, place)
    inputs = {"parent": (place.parent,), "rows": (rows.name,), **({"shards": ("shards",)} if replay else {})}
    return [rows, Node(step.name, "sft", config, inputs)]


def _rows(step: SftStep, place: StepContext) -> Node:
    key = f"posttraining.{step.name}.examples"
    sources = place.sources(step.examples, ConversationsSource)
    families = [name for name in step.examples if name not in sources]
    check_families(families, key, [*place.chat.sources])
    for name in families:
        if isinstance(step.examples[name], str):
            what = f"{key}.{name}: {step.examples[name]!r} of a family of generated conversations, which has no end"
            raise UserError(what, remedy="give a number of conversations")
    config = ConversationsConfig(
        amounts=step.examples, sources=sources, samples=step.samples, max_length=step.max_length or place.context_tokens,
        seed=place.seed(step.name), template=resolved(place.chat), **place.cleaning(),
    )  # fmt: skip
    return Node(f"{step.name}-rows", "conversations", config, place.cleaned_with())


def plan(node: Node, place: PlanPlace) -> Work | None:
    """Its tokens are estimated from a sample of the conversations; those of supplied ones are not known before they are read:
    they are at most the model's length."""
    c: SftConfig = node.config  # type: ignore[assignment]
    rows = place.node(node.inputs["rows"][0]).config
    replayed = c.replay.tokens if c.replay else 0
    steps = c.steps
    if not isinstance(rows, ConversationsConfig):  # sampled ones: no longer than the model
        length = c.max_length or place.model.max_seq_len
        return tuning_work(node.name, "sft", place, c, c.batch_tokens or c.batch_size * length, "at most") if steps else None
    if rows.sources:
        if not steps:
            return None
        known = c.batch_tokens or c.batch_size * rows.max_length
        return tuning_work(node.name, "sft", place, c, known + replayed, "at most")
    counts = {name: int(amount) for name, amount in rows.amounts.items()}
    each = sft_tokens(counts, place.recipe_seed)
    tokens = float(c.batch_tokens or c.batch_size * each)
    c = c.model_copy(update={"steps": steps or max(1, round(sum(counts.values()) * each * c.epochs / tokens))})
    return tuning_work(node.name, "sft", place, c, tokens + replayed)


SPEC = StageSpec(
    "sft",
    SftConfig,
    {"parent": Role("checkpoint"), "rows": Role("conversations"), "shards": Role("shards", optional=True)},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=_steps,
    expand=expand,
    plan=plan,
)
