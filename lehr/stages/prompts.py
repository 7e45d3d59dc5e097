"""Prompts of roll-outs with their verifiers: supplied ones and generated ones, counted, checked and decontaminated."""

from __future__ import annotations

from typing import Any

from lehr.config.chat import Amount, PromptsSource
from lehr.config.posttraining import RollOutStep
from lehr.data.reasoning import PREFIX
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.post.templates import resolved
from lehr.post.verifiers import check_args
from lehr.post.verifiers.sandbox import check_machine
from lehr.runtime.errors import UserError
from lehr.stages.conversations import CleanedConfig, described, index_of


class PromptsConfig(CleanedConfig):
    """`amounts` of supplied `sources` and of generated families, by name; shares are of `samples`. A prompt has at most
    `max_length` tokens, the rest of the context being the answer's. With `verified` each needs a verifier."""

    amounts: dict[str, Amount]
    sources: dict[str, PromptsSource]
    verified: bool

    def described(self) -> dict[str, Any]:
        """A source's files count by their content and not by their path."""
        return {**super().described(), "sources": {name: described(source) for name, source in self.sources.items()}}


def run(config: PromptsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the prompts. Raises UserError as `prepare_prompts` does."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.post.sets.prompts import Preparing, prepare_prompts
    from lehr.post.template_tokens import with_template

    tokenizer = with_template(Tokenizer.load(inputs["tokenizer"].folder), config.template)
    wish = Preparing(config.amounts, config.sources, config.samples, config.max_length, config.seed, config.verified)
    counts = prepare_prompts(wish, tokenizer, index_of(config, inputs), attempt.out, attempt.tracker.note)
    return Outcome({"prompts": counts})


def prompts_of(step: RollOutStep, place: StepContext) -> list[Node]:
    """The node of a step's prompts, none where they are generated anew for each roll-out. Raises UserError for a family or a
    verifier that does not exist, and for a machine that refuses what the families need."""
    key, names = f"posttraining.{step.name}", [*step.families, *step.examples]
    sources = place.sources(step.examples, PromptsSource)
    families = [name for name in names if name not in sources]
    check_families(families, f"{key}.{'examples' if step.examples else 'families'}", [*place.chat.sources])
    for name in step.bonus:  # what is wrong is reported now, not when the stage runs
        try:
            check_args(name, {})
        except UserError as error:
            raise UserError(error.what, where=f"{key}.bonus", remedy=error.remedy) from error
    if any(family.startswith(PREFIX) for family in families):
        check_machine("reasoning_gym")
    if not step.examples:
        return []
    for name in families:
        if isinstance(step.examples[name], str):
            what = f"{key}.examples.{name}: {step.examples[name]!r} of a family of generated prompts, which has no end"
            raise UserError(what, remedy="give a number of prompts")
    config = PromptsConfig(
        amounts=step.examples, sources=sources, samples=step.samples, max_length=place.context_tokens - step.max_new_tokens,
        seed=place.seed(step.name), verified=not any(getattr(step, "reward_models", {}).values()),
        template=resolved(place.chat), **place.cleaning(),
    )  # fmt: skip
    return [Node(f"{step.name}-rows", "prompts", config, place.cleaned_with())]


SPEC = StageSpec(
    "prompts",
    PromptsConfig,
    {"tokenizer": Role("tokenizer"), "documents": Role("documents", optional=True)},
    "prompts",
    "cpu",
    "post-training",
    run,
)
