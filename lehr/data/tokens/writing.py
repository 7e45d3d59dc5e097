"""A source's documents to its shards. Each shard is complete or absent, and what is complete is not made again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lehr.artifacts.artifact import write_atomic
from lehr.config.shards import Shards
from lehr.data.document import Document
from lehr.data.spans import DocumentIds, SpansWriter, read_spans
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens import files
from lehr.data.tokens.encoding import Encoded, encoded
from lehr.data.tokens.files import Blocks, Listing, Shard, listing_file, shard_file
from lehr.data.tokens.ids import write_ids
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

KINDS = ("spans", "blocks", "tokens")  # of a shard's files, in the order in which they get their names
_MOST_DOCUMENTS = 1 << 22  # of one shard: bounds the memory that its index takes


@dataclass(frozen=True)
class Place:
    """Where a source is written: its name, the folder, the tokens of a shard at most, and what is called with the renames of a
    finished shard. Nothing else there is the source's."""

    source: str
    folder: Path
    shard_tokens: int = Shards().tokens
    commit: Callable[[Callable[[], None]], None] = lambda renames: renames()

    def file(self, number: int, kind: str) -> Path:
        return shard_file(self.folder, self.source, number, kind)

    def done_file(self, number: int) -> Path:
        """Says what a finished shard has, until the list of all says it."""
        return self.file(number, "done")


def finished(place: Place) -> list[Shard]:
    """The shards that an earlier attempt finished, from the first on, up to one whose body is not what its hash says, as after
    a power failure."""
    found = list[Shard]()
    while (path := place.done_file(len(found))).is_file():
        try:
            shard = Shard.model_validate(read_object(path, files.REMEDY))
            files.read_blocks(place.file(len(found), "blocks"), shard)
            files.verify_body(place.file(len(found), "tokens"), shard)
            if len(read_spans(place.file(len(found), "spans"), files.REMEDY)[0]) != shard.documents:
                break
        except (UserError, ValueError, OSError):
            break
        found.append(shard)
    return found


def write_shards(documents: Iterable[Document], source: str, tokenizer: Tokenizer, folder: Path, tokens: int = 0) -> Listing:
    """Tokenize `documents` in this process into `folder`, in shards of so many `tokens`; returns what was written.
    Raises UserError for no documents, and for a source's name that is no file's."""
    place = Place(source, folder, tokens or Shards().tokens)
    listing_file(folder, source)  # a name that is no file's is refused before anything is written
    return write_source(encoded(documents, tokenizer), tokenizer, place, [])


def write_source(given: Iterator[Encoded], tokenizer: Tokenizer, place: Place, done: list[Shard]) -> Listing:
    """Write the source whose shards so far are `done`, and whose other documents are `given`; its list is written last. Memory
    does not grow with their number. Raises UserError if there are none."""
    shards, writer = [*done], None
    for some in given:
        ends, at, byte = np.cumsum(some.tokens), 0, 0
        while at < len(some.names):
            writer = writer or ShardWriter(place, len(shards), tokenizer)
            end = writer.fit(ends, at)
            if end == at and writer.documents:
                shards.append(writer.finish())
                writer = None
                continue
            end = max(end, at + 1)
            last = int(ends[end - 1]) * tokenizer.dtype.itemsize
            writer.add(some.names[at:end], some.tokens[at:end], memoryview(some.body)[byte:last])
            at, byte = end, last
    if writer:
        shards.append(writer.finish())
    if not shards:
        remedy = "add documents to it, or remove it from the recipe"
        raise UserError(f"source {place.source!r} is empty", where=place.folder, remedy=remedy)
    listing = Listing(
        source=place.source, dtype="<u2" if tokenizer.dtype.itemsize == 2 else "<u4", tokenizer=tokenizer.hash, shards=shards
    )
    write_index(place, shards)
    write_atomic(listing_file(place.folder, place.source), listing.model_dump_json(indent=1))
    for number in range(len(shards)):
        place.done_file(number).unlink(missing_ok=True)
    return listing


def write_index(place: Place, shards: list[Shard]) -> None:
    """Write SOURCE.ids from the spans of the source's shards."""

    def names_of(number: int) -> Callable[[int, int], list[bytes]]:
        opened: list[DocumentIds] = []

        def names(first: int, end: int) -> list[bytes]:
            if not first:  # not before: of many shards one is open at a time
                opened[:] = [read_spans(place.file(number, "spans"), files.REMEDY, whole=True)[0]]
            found = opened[0].raw(first, end)
            if end == shards[number].documents:
                opened.clear()
            return found

        return names

    scratch = place.folder / f".{place.source}.ids"
    write_ids(place.folder / f"{place.source}.ids", [(s.documents, names_of(n)) for n, s in enumerate(shards)], scratch)
    scratch.rmdir()


class ShardWriter:
    """Writes one shard under other names, and gives it its own when it is finished."""

    def __init__(self, place: Place, number: int, tokenizer: Tokenizer) -> None:
        self._place, self._number, self._tokenizer = place, number, tokenizer
        self._tokens, self.documents, self._blocks = 0, 0, Blocks()
        place.folder.mkdir(parents=True, exist_ok=True)
        # Space for the longest possible header, written when the counts are known.
        self._room = len(self._header(1 << 48, 1 << 48, "0" * 64))
        self._beside = {kind: self._temporary(kind) for kind in KINDS}
        self._body = self._beside["tokens"].open("wb")
        self._body.seek(16 + self._room)
        self._spans = SpansWriter(self._beside["spans"])

    def _temporary(self, kind: str) -> Path:
        path = self._place.file(self._number, kind)
        return path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def _header(self, tokens: int, documents: int, sha256: str) -> bytes:
        counts: dict[str, object] = {"tokens": tokens, "documents": documents, "sha256": sha256}
        dtype, hash_ = self._tokenizer.dtype.str, self._tokenizer.hash
        return files.header_bytes(files.header_of(self._place.source, self._number, dtype, hash_, counts))

    def fit(self, ends: np.ndarray, at: int) -> int:
        """Of documents whose tokens add up to `ends`, the number of the one after the last that has room here, from `at` on."""
        room = self._place.shard_tokens - self._tokens + (int(ends[at - 1]) if at else 0)
        return max(at, min(int(np.searchsorted(ends, room, side="right")), at + _MOST_DOCUMENTS - self.documents))

    def add(self, names: list[bytes], tokens: np.ndarray, body: memoryview) -> None:
        """Append documents: their ids, the tokens of each, and these tokens."""
        ends = np.cumsum(tokens)
        self._spans.extend(names, self._tokens + ends - tokens)
        self._blocks.add(body)
        self._body.write(body)
        self._tokens += int(ends[-1])
        self.documents += len(names)

    def finish(self) -> Shard:
        """Write what remains and commit the shard."""
        blocks = self._blocks.finish()
        shard = Shard(
            tokens=self._tokens, documents=self.documents, offset=16 + self._room, sha256=files.hash_of(blocks)
        )  # fmt: skip
        header = self._header(shard.tokens, shard.documents, shard.sha256).ljust(self._room)
        self._body.seek(0)
        self._body.write(files.HEADER_MAGIC + self._room.to_bytes(8, "little") + header)
        self._body.flush()
        os.fsync(self._body.fileno())
        self._body.close()
        self._spans.close()
        self._beside["blocks"].write_bytes(blocks)

        def renames() -> None:
            for kind in KINDS:
                os.replace(self._beside[kind], self._place.file(self._number, kind))
            write_atomic(self._place.done_file(self._number), shard.model_dump_json())

        self._place.commit(renames)
        return shard
