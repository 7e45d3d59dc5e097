"""Preference pairs: answers of models to generated prompts or one's own, judged by verifiers, a judge or the models' gap; or
answers made wrong by perturbation."""

from __future__ import annotations

from typing import Any

from lehr.config.base import Config, NonNegative, Positive
from lehr.config.chat import ConversationsSource, PromptsSource
from lehr.config.posttraining import Pairs
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.stages.conversations import described, index_of


class SuppliedPrompts(Config):
    """One's own prompts, apart from the tasks of `decontaminate` as supplied rows are (lehr.stages.conversations)."""

    sources: dict[str, PromptsSource | ConversationsSource]
    decontaminate: list[str]
    ngram: Positive
    hits: Positive
    evaluation_seed: NonNegative


class PreferencesConfig(RankedConfig):
    """Prompts are drawn from `seed` and the name `stream`; `supplied` are those that `pairs.examples` name."""

    pairs: Pairs
    seed: NonNegative
    stream: str
    supplied: SuppliedPrompts | None = None

    def described(self) -> dict[str, Any]:
        """Which judge rates counts, where it is does not; and files by their content, not by their path."""
        said = super().described()
        if self.pairs.judge:
            own = self.pairs.judge.model_dump(mode="json", exclude={"url", "concurrency", "timeout_seconds"})
            said["pairs"] = {**said["pairs"], "judge": own}
        if self.supplied:
            sources = {name: described(source) for name, source in self.supplied.sources.items()}
            said["supplied"] = {**said["supplied"], "sources": sources}
        return said


def run(config: PreferencesConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Answer training and held-out prompts, and make pairs of the answers."""
    from lehr.distributed.ranks import run_ranks
    from lehr.post.asked import SPLITS
    from lehr.post.pairing.making import Making, make_pairs
    from lehr.post.pairing.questions import Question, generated
    from lehr.train.fit import RankContext

    questions: dict[Any, list[Question]] = {split: [] for split in SPLITS}
    for split, question in [*generated(config.pairs, config.seed, config.stream), *_own(config, inputs, attempt)]:
        questions[split].append(question)
    weaker = inputs.get("weaker")
    work = Making(
        RankContext.of(attempt, config.parallel), config.pairs, inputs["parent"].folder,
        tuple(model.folder for model in inputs.many("pool")), weaker.folder if weaker else None, questions, config.seed,
        config.stream,
    )  # fmt: skip
    found: dict[str, Any] = run_ranks(config.parallel.processes, config.parallel.threads, make_pairs, work)
    return Outcome(found, processes=config.parallel.processes)


def _own(config: PreferencesConfig, inputs: Inputs, attempt: Attempt) -> list[Any]:
    """The supplied questions with their splits; their counts and dropped rows are the artifact's."""
    from lehr.post.pairing.questions import of_asked
    from lehr.post.sets.asked_prompts import Wish, asked_prompts
    from lehr.post.sets.audit import Audit

    own = config.supplied
    if own is None:
        return []
    with Audit(attempt.out) as audit:
        wish = Wish([], config.pairs.examples, own.sources, 0, config.seed, config.pairs.by == "verifier")
        found = [of_asked(asked, config.pairs.held_out_share) for asked in asked_prompts(wish, index_of(own, inputs), audit)]
        for _, question in found:
            audit.sets[question.family].drawn += 1
        audit.close()
    return found


def pairs_node(name: str, pairs: Pairs, place: StepContext, key: str) -> Node:
    """The node that makes a step's pairs. Raises UserError for an unknown chat family."""
    check_families(pairs.families, f"{key}.families")
    sources: dict[str, PromptsSource | ConversationsSource] = {
        **place.sources(pairs.examples, PromptsSource), **place.sources(pairs.examples, ConversationsSource),
    }  # fmt: skip
    supplied = SuppliedPrompts(sources=sources, **place.cleaning(True)) if sources else None
    config = PreferencesConfig(pairs=pairs, seed=place.recipe_seed, stream=name, supplied=supplied, parallel=place.parallel)
    inputs = {"parent": (place.parent,), "pool": tuple(map(place.reference, pairs.pool))}
    inputs |= {"weaker": (place.reference(pairs.weaker),) if pairs.weaker else ()}
    inputs |= {role: names for role, names in place.cleaned_with(bool(sources)).items() if role == "documents"}
    return Node(name, "preferences", config, {role: names for role, names in inputs.items() if names})


SPEC = StageSpec(
    "preferences",
    PreferencesConfig,
    {
        "parent": Role("checkpoint"),
        "pool": Role("checkpoint", many=True, optional=True),
        "weaker": Role("checkpoint", optional=True),
        "documents": Role("documents", optional=True),
    },
    "preferences",
    "ranked",
    "post-training",
    run,
)
