"""The tokenizer: trained on the kept documents, read from a file, or taken from the model from which the run begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lehr.artifacts.artifact import Artifact, sha256_file
from lehr.config.base import Positive
from lehr.config.tokenizer import Tokenizer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.runtime.errors import UserError


class TokenizerConfig(StageConfig):
    """Without `tokenizer`, the input checkpoint's is taken. `sources` are those to train one on, in order."""

    rows: Positive  # of the model's embedding: the tokenizer must not have more tokens
    tokenizer: Tokenizer | None = None
    sources: list[str] = []

    def described(self) -> dict[str, Any]:
        """A tokenizer file counts by its content. Raises UserError if it is missing."""
        said = super().described()
        if self.tokenizer and self.tokenizer.path:
            said["tokenizer"]["path"] = _content(self.tokenizer.path)
        return said


def _content(path: str) -> dict[str, str]:
    """SHA-256 of each file that defines the tokenizer."""
    from lehr.data.foreign import files_of

    return {file.name: sha256_file(file) for file in files_of(path)}


def run(config: TokenizerConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write `tokenizer.json`. Raises UserError for a damaged file, and if there are more tokens than embedding rows."""
    from lehr.data.tokenizer import Tokenizer as Vocabulary

    if config.tokenizer is None:
        found = Vocabulary.load(inputs["checkpoint"].folder)
    elif config.tokenizer.path:
        found = Vocabulary.given(config.tokenizer)
    else:
        found = Vocabulary.train(_sample(config.tokenizer, config.sources, inputs["documents"]), config.tokenizer.vocab_size)
    if found.vocab_size > config.rows:
        raise UserError(
            f"the tokenizer has {found.vocab_size} entries, model.vocab_size is {config.rows}", remedy="raise model.vocab_size"
        )
    found.save(attempt.out)
    return Outcome({"vocab_size": found.vocab_size, "hash": found.hash})


def _sample(config: Tokenizer, sources: list[str], corpus: Artifact) -> Iterator[str]:
    """Equal numbers of characters from every source, from its beginning."""
    from lehr.data.kept import kept

    share = config.training_characters // len(sources)
    for name in sources:
        taken = 0
        for document in kept(corpus, name):
            yield document.text
            taken += len(document.text)
            if taken >= share:
                break


SPEC = StageSpec(
    "tokenizer",
    TokenizerConfig,
    {"documents": Role("documents", optional=True), "checkpoint": Role("checkpoint", optional=True)},
    "tokenizer",
    "cpu",
    "data",
    run,
)
