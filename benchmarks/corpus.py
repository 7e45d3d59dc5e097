"""Corpora for measuring loaders: one of real tokens, and sparse ones of any size that take no disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lehr.config.mix import Mix
from lehr.data.document import Document, read_jsonl
from lehr.data.loader import Loader
from lehr.data.mix import plan
from lehr.data.shards import SPANS_CHECKED, ShardSet
from lehr.data.spans import SPANS_MAGIC
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.files import HEADER_MAGIC, Listing, Shard, header_bytes, header_of, listing_file, shard_file

TEXTS = Path(__file__).resolve().parent.parent / "recipes/data"
LENGTH = 256  # positions of a window
_WINDOWS_PER_DOCUMENT = 4


def texts(characters: int, names: tuple[str, ...] = ("factbook", "plays", "novel", "speeches")) -> list[Document]:
    """About so many characters of the shipped text pack, in the documents' own lengths."""
    found: list[Document] = []
    left = characters
    for name in names:
        for document in read_jsonl(TEXTS / f"{name}.jsonl.gz", name):
            if left <= 0:
                return found
            found.append(document)
            left -= len(document.text)
    return found


def loader(shards: ShardSet, seed: int = 0) -> Loader:
    """Every window of `shards` once."""
    return Loader(plan(Mix(weights={shards.source: 1.0}), {shards.source: shards}, (len(shards) - 1) // LENGTH, LENGTH), seed)


def sparse(folder: Path, instances: int, tokenizer: Tokenizer) -> str:
    """A source of `instances` windows in one shard, whose body and spans are holes in their files, but for what opening looks
    at; returns its name."""
    tokens, documents, source = instances * LENGTH + 1, max(1, instances // _WINDOWS_PER_DOCUMENT), f"n{instances}"
    counts: dict[str, Any] = {"tokens": tokens, "documents": documents, "sha256": "0" * 64}
    header = header_bytes(header_of(source, 0, "<u2", tokenizer.hash, counts))
    listing = Listing(source=source, dtype="<u2", tokenizer=tokenizer.hash, shards=[Shard(offset=16 + len(header), **counts)])
    listing_file(folder, source).write_text(listing.model_dump_json())
    with shard_file(folder, source, 0, "tokens").open("wb") as f:
        f.write(HEADER_MAGIC + len(header).to_bytes(8, "little") + header)
        f.truncate(f.tell() + 2 * tokens)
    numbers = np.unique(np.linspace(0, documents - 1, min(documents, SPANS_CHECKED)).astype(np.int64))
    id_bytes = 9 * documents  # eight bytes each and a limit
    with shard_file(folder, source, 0, "spans").open("wb") as f:
        f.write(SPANS_MAGIC + documents.to_bytes(8, "little"))
        for number in {*numbers.tolist(), *(n for n in (numbers + 1).tolist() if n < documents)}:
            f.seek(16 + 8 * number)
            f.write((number * _WINDOWS_PER_DOCUMENT * LENGTH).to_bytes(8, "little"))
        f.seek(16 + 8 * (2 * documents - 1))
        f.write((id_bytes - 1).to_bytes(8, "little"))
        f.truncate(16 + 16 * documents + 1 + id_bytes)
    return source
