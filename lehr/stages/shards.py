"""Kept documents to token shards."""

from __future__ import annotations

from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec


class ShardsConfig(StageConfig):
    """`sources`: the sources that are tokenized, which are those that a mix draws from."""

    sources: list[str]


def run(config: ShardsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write one shard for each source."""
    from lehr.data.kept import kept
    from lehr.data.shards import write_shard
    from lehr.data.tokenizer import Tokenizer

    tokenizer, counts = Tokenizer.load(inputs["tokenizer"].folder), dict[str, int]()
    for number, name in enumerate(config.sources, start=1):
        attempt.tracker.note(f"tokenizing {name}")
        counts[name] = write_shard(kept(inputs["documents"], name), name, tokenizer, attempt.out)
        attempt.tracker.progress(attempt.name, number, len(config.sources), {})
    return Outcome({"tokens": counts, "tokenizer": tokenizer.hash}, sum(counts.values()))


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
