"""Preference pairs: answers of models to generated prompts or one's own, judged by verifiers, a judge or the models' gap; or
answers made wrong by perturbation."""

from __future__ import annotations

from typing import Any

from lehr.config.base import Config, NonNegative, Positive
from lehr.config.chat import ConversationsSource, PromptsSource
from lehr.config.decontamination import Action, LeakedParagraphs
from lehr.config.posttraining import Pairs
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.stages.conversations import described, index_of


class Prompts(Config):
    """How prompts, generated ones and those of `sources`, are kept apart from the tasks of `decontaminate`: as other rows are
    (lehr.stages.conversations)."""

    sources: dict[str, PromptsSource | ConversationsSource]
    decontaminate: list[str]
    ngram: Positive
    hits: Positive
    evaluation_seed: NonNegative
    paragraphs: LeakedParagraphs | None
    action: Action


class PreferencesConfig(RankedConfig):
    """Prompts are drawn from `seed` and the name `stream`; `prompts.sources` are those that `pairs.examples` name. Without
    `prompts` there are generated ones alone, and they are compared with nothing."""

    pairs: Pairs
    seed: NonNegative
    stream: str
    prompts: Prompts | None = None

    def described(self) -> dict[str, Any]:
        """Which judge rates counts, where it is does not; and files by their content, not by their path."""
        said = super().described()
        if self.pairs.judge:
            own = self.pairs.judge.model_dump(mode="json", exclude={"url", "concurrency", "timeout_seconds"})
            said["pairs"] = {**said["pairs"], "judge": own}
        if self.prompts:
            from lehr.evals.own import identity

            sources = {name: described(source) for name, source in self.prompts.sources.items()}
            apart = [identity(task) for task in self.prompts.decontaminate]
            said["prompts"] = {**said["prompts"], "sources": sources, "decontaminate": apart}
        return said


def run(config: PreferencesConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Answer training and held-out prompts, and make pairs of the answers."""
    from lehr.distributed.ranks import run_ranks
    from lehr.post.asked import SPLITS
    from lehr.post.pairing.making import Making, make_pairs
    from lehr.post.pairing.questions import Question
    from lehr.train.fit import RankContext

    questions: dict[Any, list[Question]] = {split: [] for split in SPLITS}
    for split, question in _asked(config, inputs, attempt):
        questions[split].append(question)
    weaker = inputs.get("weaker")
    work = Making(
        RankContext.of(attempt, config.parallel), config.pairs, inputs["parent"].folder,
        tuple(model.folder for model in inputs.many("pool")), weaker.folder if weaker else None, questions, config.seed,
        config.stream,
    )  # fmt: skip
    found: dict[str, Any] = run_ranks(config.parallel.processes, config.parallel.threads, make_pairs, work)
    return Outcome(found, processes=config.parallel.processes)


def _asked(config: PreferencesConfig, inputs: Inputs, attempt: Attempt) -> list[Any]:
    """All questions with their splits; counts of one's own and dropped rows are the artifact's."""
    from lehr.post.pairing.questions import generated, of_asked
    from lehr.post.sets.asked_prompts import Wish, asked_prompts
    from lehr.post.sets.audit import Audit

    made, own = list(generated(config.pairs, config.seed, config.stream)), config.prompts
    if own is None:
        return made
    index = index_of(own, inputs)
    with Audit(attempt.out) as audit:
        made = _apart(made, index, audit)
        wish = Wish([], config.pairs.examples, own.sources, 0, config.seed, config.pairs.by == "verifier")
        found = [of_asked(asked, config.pairs.held_out_share) for asked in asked_prompts(wish, index, audit)]
        for _, question in found:
            audit.sets[question.family].drawn += 1
        audit.close()
    return [*made, *found]


def _apart(made: list[Any], index: Any, audit: Any) -> list[Any]:
    """Generated questions, without those to be trained on that an evaluation asks too; counted where there are such. Those held
    out are an evaluation's own: pairs of them are only scored."""
    from lehr.post.sets.audit import SetCounts
    from lehr.post.sets.prepare import clean, generated_row

    stay = set[int]()
    for family in dict.fromkeys(question.family for _, question in made):
        own = [(n, question) for n, (split, question) in enumerate(made) if question.family == family and split == "train"]
        counts = audit.sets[family] = SetCounts("generated", "CC0-1.0", read=len(own))
        rows = ((generated_row(family, number), question) for number, question in own)
        stay |= {row.number for row, _ in clean(rows, index, family, audit, lambda question: question.prompt)}
        counts.kept = counts.drawn = counts.read - counts.dropped.total()
        if not counts.dropped:
            del audit.sets[family]
    return [each for number, each in enumerate(made) if each[0] != "train" or number in stay]


def pairs_node(name: str, pairs: Pairs, place: StepContext, key: str) -> Node:
    """The node that makes a step's pairs. Raises UserError for an unknown chat family."""
    check_families(pairs.families, f"{key}.families")
    sources: dict[str, PromptsSource | ConversationsSource] = {
        **place.sources(pairs.examples, PromptsSource), **place.sources(pairs.examples, ConversationsSource),
    }  # fmt: skip
    prompts = Prompts(sources=sources, **place.cleaning())
    config = PreferencesConfig(pairs=pairs, seed=place.recipe_seed, stream=name, prompts=prompts, parallel=place.parallel)
    inputs = {"parent": (place.parent,), "pool": tuple(map(place.reference, pairs.pool))}
    inputs |= {"weaker": (place.reference(pairs.weaker),) if pairs.weaker else ()}
    inputs |= {role: names for role, names in place.cleaned_with().items() if role == "documents"}
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
