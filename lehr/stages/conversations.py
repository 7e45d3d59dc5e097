"""Conversations as rendered rows: supplied ones and generated ones, counted, checked and decontaminated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lehr.artifacts.artifact import sha256_text
from lehr.config.base import NonNegative, Positive
from lehr.config.chat import Amount, ConversationsSource, SuppliedSource
from lehr.config.decontamination import Action, LeakedParagraphs
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec


class CleanedConfig(StageConfig):
    """Rows have at most `max_length` tokens under the recipe's chat template (lehr.post.templates.resolved). Those that share
    `hits` n-grams of `ngram` words or a paragraph with a task of `decontaminate` are removed or flagged, generated ones too."""

    template: str
    samples: NonNegative
    max_length: Positive
    decontaminate: list[str]
    ngram: Positive
    hits: Positive
    evaluation_seed: NonNegative
    seed: NonNegative
    paragraphs: LeakedParagraphs | None = LeakedParagraphs()
    action: Action = "remove"

    def described(self) -> dict[str, Any]:
        """A task of one's own counts by its content and not by its path."""
        from lehr.evals.own import identity

        return {**super().described(), "decontaminate": [identity(task) for task in self.decontaminate]}


class ConversationsConfig(CleanedConfig):
    """`amounts` of supplied `sources` and of families of generated conversations, by name; shares are of `samples`."""

    amounts: dict[str, Amount]
    sources: dict[str, ConversationsSource]

    def described(self) -> dict[str, Any]:
        """A source's files count by their content and not by their path."""
        return {**super().described(), "sources": {name: described(source) for name, source in self.sources.items()}}


def described(source: SuppliedSource) -> dict[str, Any]:
    """A source's part of the fingerprint. Raises UserError if it has no files."""
    from lehr.post.sets.files import files_of

    said = source.model_dump(mode="json", exclude={"path"})
    said["sha256"] = sha256_text(" ".join(file.digest() for file in files_of(source.path, source.split)))
    return said


def run(config: ConversationsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the rows. Raises UserError as `prepare_conversations` does."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.post.sets.prepare import Preparing, prepare_conversations
    from lehr.post.template_tokens import with_template

    tokenizer = with_template(Tokenizer.load(inputs["tokenizer"].folder), config.template)
    tokenizer.save(attempt.out)
    wish = Preparing(config.amounts, config.sources, config.samples, config.max_length, config.seed)
    index = index_of(config, inputs)
    sets = prepare_conversations(wish, tokenizer, index, attempt.out, attempt.tracker.note)
    counts = {name: {"rows": c.drawn, "tokens": c.tokens, "trained_tokens": c.trained_tokens} for name, c in sets.items()}
    return Outcome({"sets": counts, "rows": sum(c.drawn for c in sets.values()), "tokenizer": tokenizer.hash})


class Apart(Protocol):
    """From which evaluations rows are to be apart: see CleanedConfig."""

    decontaminate: list[str]
    ngram: int
    hits: int
    evaluation_seed: int
    paragraphs: LeakedParagraphs | None
    action: Action


def index_of(config: Apart, inputs: Inputs) -> Any:
    """The n-grams and paragraphs of the tasks from which rows are to be apart: a lehr.data.decontaminate.Decontaminator."""
    from lehr.data.decontaminate import Decontaminator
    from lehr.data.evaluation_texts import least_ngrams
    from lehr.evals.contamination import evaluation_texts

    documents = inputs.get("documents")
    folder = documents.folder if documents else None
    texts: Mapping[str, list[str]] = evaluation_texts(
        config.decontaminate, config.evaluation_seed, folder, ngram_words=config.ngram
    )
    return Decontaminator(texts, config.ngram, least_ngrams(texts, config.hits), config.paragraphs, config.action)


SPEC = StageSpec(
    "conversations",
    ConversationsConfig,
    {"tokenizer": Role("tokenizer"), "documents": Role("documents", optional=True)},
    "conversations",
    "cpu",
    "post-training",
    run,
)
