"""How tokens are laid out on the disk or in the object store."""

from __future__ import annotations

from lehr.config.base import Config, Positive


class Shards(Config):
    """A source's tokens are cut into shards of at most `tokens` each, at ends of documents; a longer document is a shard of its
    own. What is trained on does not depend on it."""

    tokens: Positive = 1 << 28  # 512 MiB of 16-bit ids, about 1 GB of English
