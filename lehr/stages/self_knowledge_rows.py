"""Questions about the model itself, with right and wrong answers, and what is replayed with them, as rendered rows."""

from __future__ import annotations

from typing import Any

from lehr.config.base import Positive, PositiveFloat
from lehr.config.chat import Amount, ConversationsSource
from lehr.config.self_knowledge import About
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.stages.conversations import ConversationsConfig, described, index_of


class SelfKnowledgeRowsConfig(ConversationsConfig):
    """`samples` questions about itself, and `amounts` of replayed conversations; see
    lehr.config.posttraining.SelfKnowledgeStep."""

    about: About
    samples: Positive
    negatives: dict[str, Amount]
    negative_sources: dict[str, ConversationsSource]
    negative_weight: PositiveFloat

    def described(self) -> dict[str, Any]:
        """A source's files count by their content and not by their path."""
        return {**super().described(), "negative_sources": {name: described(s) for name, s in self.negative_sources.items()}}


def run(config: SelfKnowledgeRowsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the rows. Raises UserError as `prepare_self_knowledge` does."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.post.conditioning import with_negative
    from lehr.post.sets.prepare import Preparing
    from lehr.post.sets.self_knowledge import Itself, prepare_self_knowledge
    from lehr.post.template_tokens import with_template

    c = config
    tokenizer = with_negative(with_template(Tokenizer.load(inputs["tokenizer"].folder), c.template))
    tokenizer.save(attempt.out)
    itself = Itself(c.about, c.samples, c.negatives, c.negative_sources, c.negative_weight)
    replay = Preparing(c.amounts, c.sources, c.samples, c.max_length, c.seed)
    sets = prepare_self_knowledge(itself, replay, tokenizer, index_of(c, inputs), attempt.out, attempt.tracker.note)
    counts = {name: {"rows": s.drawn, "tokens": s.tokens, "trained_tokens": s.trained_tokens} for name, s in sets.items()}
    return Outcome({"sets": counts, "rows": sum(s.drawn for s in sets.values()), "tokenizer": tokenizer.hash})


SPEC = StageSpec(
    "self_knowledge_rows",
    SelfKnowledgeRowsConfig,
    {"tokenizer": Role("tokenizer"), "documents": Role("documents", optional=True)},
    "conversations",
    "cpu",
    "post-training",
    run,
)
