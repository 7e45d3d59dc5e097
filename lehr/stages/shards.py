"""Kept documents to token shards."""

from __future__ import annotations

from typing import ClassVar

from lehr.config.base import NonNegative, Positive
from lehr.config.data import Data
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec


class ShardsConfig(StageConfig):
    """`sources`: the sources that are tokenized, which are those that a mix draws from; `tokens`: of a shard, at most."""

    UNHASHED: ClassVar[frozenset[str]] = frozenset({"processes"})

    sources: list[str]
    tokens: Positive
    processes: NonNegative = 0

    @classmethod
    def of(cls, data: Data, sources: list[str]) -> ShardsConfig:
        return cls(sources=sources, tokens=data.shards.tokens, processes=data.processes)


def run(config: ShardsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the shards of each source, or take those that an earlier artifact has of the same documents, tokenizer and code."""
    from lehr.artifacts.fingerprint import code_version
    from lehr.data.tokenizer import Tokenizer
    from lehr.data.tokens.sources import Sources

    tokenizer = Tokenizer.load(inputs["tokenizer"].folder)
    sources = Sources(inputs["documents"], inputs["tokenizer"].folder, tokenizer, config, code_version(run), attempt)
    counts, documents = dict[str, int](), dict[str, str]()
    for number, name in enumerate(config.sources, start=1):
        counts[name] = sources.make(name).tokens
        documents[name] = sources.documents(name)
        attempt.tracker.progress(attempt.name, number, len(config.sources), {})
    sources.finish()
    return Outcome({"tokens": counts, "tokenizer": tokenizer.hash, "documents": documents}, sum(counts.values()))


SPEC = StageSpec(
    "shards",
    ShardsConfig,
    {"documents": Role("documents"), "tokenizer": Role("tokenizer")},
    "shards",
    "cpu",
    "data",
    run,
    total_steps=lambda config, inputs: len(config.sources),
)
