"""Preference pairs from files that a user supplies."""

from __future__ import annotations

from typing import Any

from lehr.config.chat import Amount, PreferencesSource
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.stages.conversations import CleanedConfig, described, index_of


class SuppliedPreferencesConfig(CleanedConfig):
    """`amounts` of the `sources`, by name; shares are of `samples`. Both answers of a pair have at most `max_length` tokens
    with their prompt."""

    amounts: dict[str, Amount]
    sources: dict[str, PreferencesSource]

    def described(self) -> dict[str, Any]:
        """A source's files count by their content and not by their path."""
        return {**super().described(), "sources": {name: described(source) for name, source in self.sources.items()}}


def run(config: SuppliedPreferencesConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the pairs. Raises UserError as `prepare_preferences` does."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.post.sets.preferences import Preparing, prepare_preferences
    from lehr.post.template_tokens import with_template

    tokenizer = with_template(Tokenizer.load(inputs["tokenizer"].folder), config.template)
    wish = Preparing(config.amounts, config.sources, config.samples, config.max_length, config.seed)
    counts = prepare_preferences(wish, tokenizer, index_of(config, inputs), attempt.out, attempt.tracker.note)
    return Outcome({"pairs": counts})


SPEC = StageSpec(
    "supplied_preferences",
    SuppliedPreferencesConfig,
    {"tokenizer": Role("tokenizer"), "documents": Role("documents", optional=True)},
    "preferences",
    "cpu",
    "post-training",
    run,
)
