"""Direct preference optimisation on pairs sampled from the parent."""

from __future__ import annotations

from lehr.config.base import NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.optim import Optim
from lehr.config.posttraining import DpoStep
from lehr.config.schedule import StepSchedule
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import answer_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.runtime.errors import Bug
from lehr.stages.preferences import PreferencesConfig


class DpoConfig(TrainingConfig):
    """See lehr.config.posttraining.DpoStep."""

    optim: Optim
    schedule: StepSchedule
    steps: Positive
    batch_size: Positive
    max_length: NonNegative
    beta: PositiveFloat
    normalised: bool
    chosen_nll: NonNegativeFloat
    seed: NonNegative


def run(config: DpoConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent, which is the reference model too, on the pairs."""
    from lehr.post.pairs import dpo_objective
    from lehr.post.tuning import tune

    return tune(config, dpo_objective, inputs["pairs"], inputs, attempt)


def expand(step: DpoStep, place: StepContext) -> list[Node]:
    """The node of the pairs, and that of the model tuned on them. Raises UserError for an unknown chat family."""
    if step.pairs is None:
        raise Bug(f"{step.name}: a dpo step without pairs cannot be run")
    check_families(step.pairs.families, f"posttraining.{step.name}.pairs.families")
    pairs = place.pairs_name(step.name)
    sampling = PreferencesConfig(pairs=step.pairs, seed=place.recipe_seed, stream=pairs, parallel=place.parallel)
    config = DpoConfig(
        optim=step.optim, schedule=step.schedule, steps=step.total_steps, batch_size=step.batch_size,
        max_length=step.max_length, beta=step.beta, normalised=step.normalised, chosen_nll=step.chosen_nll,
        seed=place.seed(step.name), checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
    )  # fmt: skip
    return [
        Node(pairs, "preferences", sampling, {"parent": (place.parent,)}),
        Node(step.name, "dpo", config, {"parent": (place.parent,), "pairs": (pairs,)}),
    ]


def plan(node: Node, place: PlanPlace) -> Work:
    """Its tokens are the answers', estimated from a sample of the conversations; a pair has two answers."""
    c: DpoConfig = node.config  # type: ignore[assignment]
    sampling: PreferencesConfig = place.node(node.inputs["pairs"][0]).config  # type: ignore[assignment]
    return tuning_work(node.name, "dpo", place, c, 2 * c.batch_size * answer_tokens(sampling.pairs.families, place.recipe_seed))


SPEC = StageSpec(
    "dpo",
    DpoConfig,
    {"parent": Role("checkpoint"), "pairs": Role("preferences")},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=lambda config, inputs: config.steps,
    expand=expand,
    plan=plan,
)
