"""Answers with ratings by aspect, from files that a user supplies."""

from __future__ import annotations

from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.stages.conversations import index_of
from lehr.stages.supplied_preferences import SuppliedPreferencesConfig


class SuppliedRatingsConfig(SuppliedPreferencesConfig):
    """As supplied preferences; of two answers to one prompt that is chosen whose ratings, weighted by `aspects`, are higher."""

    aspects: dict[str, float]


def run(config: SuppliedRatingsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the rated answers, and the pairs among them. Raises UserError as `prepare_ratings` does."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.post.sets.preferences import Preparing
    from lehr.post.sets.ratings import prepare_ratings
    from lehr.post.template_tokens import with_template

    tokenizer = with_template(Tokenizer.load(inputs["tokenizer"].folder), config.template)
    wish = Preparing(config.amounts, config.sources, config.samples, config.max_length, config.seed)
    index = index_of(config, inputs)
    counts = prepare_ratings(wish, config.aspects, tokenizer, index, attempt.out)
    return Outcome({"answers": counts})


SPEC = StageSpec(
    "supplied_ratings",
    SuppliedRatingsConfig,
    {"tokenizer": Role("tokenizer"), "documents": Role("documents", optional=True)},
    "preferences",
    "cpu",
    "post-training",
    run,
)
