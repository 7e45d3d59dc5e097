"""Direct preference optimisation on pairs sampled from the parent."""

from __future__ import annotations

from lehr.config.base import NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.chat import PreferencesSource
from lehr.config.lora import Lora
from lehr.config.optim import Optim
from lehr.config.posttraining import DpoStep
from lehr.config.schedule import StepSchedule
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import answer_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.post.templates import resolved
from lehr.stages.preferences import PreferencesConfig, pairs_node
from lehr.stages.supplied_preferences import SuppliedPreferencesConfig


class DpoConfig(TrainingConfig):
    """See lehr.config.posttraining.DpoStep."""

    optim: Optim
    schedule: StepSchedule
    steps: NonNegative  # 0: as many as `epochs` over the pairs make
    epochs: NonNegativeFloat
    batch_size: Positive
    max_length: NonNegative
    beta: PositiveFloat
    normalised: bool
    chosen_nll: NonNegativeFloat
    seed: NonNegative
    lora: Lora | None = None


def run(config: DpoConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent, which is the reference model too, on the pairs."""
    from lehr.post.pairs import dpo_objective
    from lehr.post.tuning import tune

    return tune(config.model_copy(update={"steps": _steps(config, inputs)}), dpo_objective, inputs, attempt)


def _steps(config: DpoConfig, inputs: Inputs) -> int:
    from lehr.post.pairs import dpo_steps

    return dpo_steps(config, inputs["pairs"].folder)


def expand(step: DpoStep, place: StepContext) -> list[Node]:
    """The node of the pairs, and that of the model tuned on them. Raises UserError for an unknown chat family."""
    name, key = place.pairs_name(step.name), f"posttraining.{step.name}.pairs"
    pairs = pairs_node(name, step.pairs, place, key) if step.pairs else _supplied(step, place)
    config = DpoConfig(
        optim=step.optim, schedule=step.schedule, steps=step.total_steps, epochs=step.epochs or 1.0, batch_size=step.batch_size,
        max_length=step.max_length, beta=step.beta, normalised=step.normalised, chosen_nll=step.chosen_nll,
        seed=place.seed(step.name), lora=step.lora, checkpoint_steps=step.checkpoint_steps, parallel=place.parallel,
        watch=place.watch,
    )  # fmt: skip
    return [pairs, Node(step.name, "dpo", config, {"parent": (place.parent,), "pairs": (pairs.name,)})]


def _supplied(step: DpoStep, place: StepContext) -> Node:
    """The node that reads supplied preferences."""
    config = SuppliedPreferencesConfig(
        amounts=step.examples, sources=place.sources(step.examples, PreferencesSource), samples=step.samples,
        max_length=step.max_length or place.context_tokens, seed=place.seed(step.name), template=resolved(place.chat),
        **place.cleaning(),
    )  # fmt: skip
    return Node(place.pairs_name(step.name), "supplied_preferences", config, place.cleaned_with())


def plan(node: Node, place: PlanPlace) -> Work | None:
    """Its tokens are the answers', estimated from a sample of the conversations; a pair has two answers. Those of
    supplied pairs are not known before they are read: they are at most the model's length."""
    c: DpoConfig = node.config  # type: ignore[assignment]
    sampling = place.node(node.inputs["pairs"][0]).config
    if not isinstance(sampling, PreferencesConfig) or not sampling.pairs.families:
        length = c.max_length or place.model.max_seq_len
        return tuning_work(node.name, "dpo", place, c, 2 * c.batch_size * length, "at most") if c.steps else None
    return tuning_work(node.name, "dpo", place, c, 2 * c.batch_size * answer_tokens(sampling.pairs.families, place.recipe_seed))


SPEC = StageSpec(
    "dpo",
    DpoConfig,
    {"parent": Role("checkpoint"), "pairs": Role("preferences")},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=_steps,
    expand=expand,
    plan=plan,
)
