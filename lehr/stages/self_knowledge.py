"""Conditioned fine-tuning on questions about the model itself (Stable LM 2 section 3.3, after C-RLFT)."""

from __future__ import annotations

from typing import Literal

from lehr.config.base import NonNegative, NonNegativeFloat, Positive
from lehr.config.chat import ConversationsSource
from lehr.config.lora import Lora
from lehr.config.optim import Optim
from lehr.config.posttraining import SelfKnowledgeStep
from lehr.config.schedule import StepSchedule
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import self_knowledge_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.post.templates import resolved
from lehr.runtime.errors import UserError
from lehr.stages.own_answers import OwnAnswersConfig
from lehr.stages.self_knowledge_rows import SelfKnowledgeRowsConfig
from lehr.stages.sft import ReplayConfig, replay_of

_IDENTITY = "identity"  # the generated family that asks who the model is, and has Lehr's own answers


class SelfKnowledgeConfig(TrainingConfig):
    """As lehr.stages.sft.SftConfig has it; the model gets the negative token."""

    optim: Optim
    schedule: StepSchedule
    steps: NonNegative
    epochs: NonNegativeFloat
    batch_size: Positive
    batch_tokens: Literal[0] = 0  # unpacked examples, as the report has it
    max_length: NonNegative
    loss: Literal["mean", "sum"]
    replay: ReplayConfig | None = None
    seed: NonNegative
    template: str
    negative_token: Literal[True] = True
    lora: Lora | None = None


def run(config: SelfKnowledgeConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent on the rows, each with its weight."""
    from lehr.post.conversations import sft_objective
    from lehr.post.tuning import tune

    return tune(config.model_copy(update={"steps": _steps(config, inputs)}), sft_objective, inputs, attempt)


def _steps(config: SelfKnowledgeConfig, inputs: Inputs) -> int:
    from lehr.post.conversations import sft_steps

    return sft_steps(config, inputs["rows"].folder)


def expand(step: SelfKnowledgeStep, place: StepContext) -> list[Node]:
    """The nodes of the rows and of its own answers to those that are replayed, and that of the model tuned on them. Raises
    UserError for a set that is neither a source nor a chat family, and for the family that teaches another name."""
    assert step.about is not None
    rows, replay = _rows(step, place), replay_of(step, place)
    config = SelfKnowledgeConfig(
        optim=step.optim, schedule=step.schedule, steps=step.steps, epochs=step.epochs or 1.0, batch_size=step.batch_size,
        max_length=step.max_length, loss=step.loss, replay=replay, seed=place.seed(step.name), parallel=place.parallel,
        checkpoint_steps=step.checkpoint_steps, watch=place.watch, template=resolved(place.chat), lora=step.lora,
    )  # fmt: skip
    nodes = [rows]
    if step.examples and step.replay_answers == "own":
        answering = OwnAnswersConfig(
            sets=list(step.examples), max_new_tokens=step.max_new_tokens, seed=place.seed(rows.name), parallel=place.parallel
        )
        nodes.append(Node(f"{step.name}-answers", "own_answers", answering, {"parent": (place.parent,), "rows": (rows.name,)}))
    inputs = {"parent": (place.parent,), "rows": (nodes[-1].name,), **({"shards": ("shards",)} if replay else {})}
    return [*nodes, Node(step.name, "self_knowledge", config, inputs)]


def _rows(step: SelfKnowledgeStep, place: StepContext) -> Node:
    key = f"posttraining.{step.name}"
    sources, negative = (place.sources(names, ConversationsSource) for names in (step.examples, step.negatives))
    families = [name for name in step.examples if name not in sources]
    check_families(families, f"{key}.examples", [*place.chat.sources])
    if _IDENTITY in families:
        what = f"{key}.examples: the family {_IDENTITY} answers in the name of Lehr"
        raise UserError(what, remedy="leave it out; questions about itself are made from about")
    for name in families:
        if isinstance(step.examples[name], str):
            what = f"{key}.examples.{name}: {step.examples[name]!r} of a family of generated conversations, which has no end"
            raise UserError(what, remedy="give a number of conversations")
    assert step.about is not None
    config = SelfKnowledgeRowsConfig(
        about=step.about, samples=step.samples, amounts=step.examples, sources=sources, negatives=step.negatives,
        negative_sources=negative, negative_weight=step.negative_weight, max_length=step.max_length or place.context_tokens,
        seed=place.seed(step.name), template=resolved(place.chat), **place.cleaning(),
    )  # fmt: skip
    return Node(f"{step.name}-rows", "self_knowledge_rows", config, place.cleaned_with())


def plan(node: Node, place: PlanPlace) -> Work | None:
    """Its tokens are estimated from a sample of the questions and of the generated conversations; those of supplied ones are
    not known before they are read: they are at most the model's length."""
    c: SelfKnowledgeConfig = node.config  # type: ignore[assignment]
    replayed = c.replay.tokens if c.replay else 0
    of = place.node(node.inputs["rows"][0])
    of = place.node(of.inputs["rows"][0]) if "rows" in of.inputs else of
    rows: SelfKnowledgeRowsConfig = of.config  # type: ignore[assignment]
    if rows.sources or rows.negative_sources:
        most = c.batch_size * rows.max_length + replayed
        return tuning_work(node.name, "self_knowledge", place, c, most, "at most") if c.steps else None
    counts = {name: int(amount) for name, amount in rows.amounts.items()}
    whole = 2 * rows.samples + sum(counts.values())
    each = self_knowledge_tokens(rows.about, rows.samples, counts, place.recipe_seed)
    c = c.model_copy(update={"steps": c.steps or max(1, -(-round(whole * c.epochs) // c.batch_size))})
    return tuning_work(node.name, "self_knowledge", place, c, c.batch_size * each + replayed)


SPEC = StageSpec(
    "self_knowledge",
    SelfKnowledgeConfig,
    {"parent": Role("checkpoint"), "rows": Role("conversations"), "shards": Role("shards", optional=True)},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=_steps,
    expand=expand,
    plan=plan,
)
