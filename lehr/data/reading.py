"""Opening the data of a stage of next-token training: from the shards of its mix to its loader."""

from __future__ import annotations

from pathlib import Path

from lehr.config.mix import Mix
from lehr.data.loader import Loader
from lehr.data.mix import plan
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer


def open_loader(shards: Path, tokenizer: Path, mix: Mix, instances: int, sequence_length: int, seed: int) -> Loader:
    """A loader of `instances` windows, each a pure function of its number. Raises UserError for shards that are damaged, of
    another tokenizer, or too short for the mix."""
    hash_ = Tokenizer.load(tokenizer).hash
    sets = {name: ShardSet.open(shards, name, hash_) for name in mix.sources}
    return Loader(plan(mix, sets, instances, sequence_length), seed)
