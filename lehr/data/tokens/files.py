"""The files of one source's tokens, as they lie in a folder or in an object store.

SOURCE.shards          JSON, written last: tokenizer, type of the ids, and for each shard its tokens, documents and hash
SOURCE-00000.tokens    8-byte magic, 8-byte little-endian header length, JSON header, body of little-endian uint16 or uint32
SOURCE-00000.blocks    8-byte magic, 8-byte size of a block, then of each block of the body the first 16 bytes of its SHA-256
SOURCE-00000.spans     each document's id and first token in the shard (lehr.data.spans)
SOURCE.ids             where a document of some id stands (lehr.data.tokens.ids)

An end-of-text token follows each document and belongs to it. A document is in one shard. A shard's hash is the SHA-256 of what
follows the magic in its `.blocks`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.json_files import read_object
from lehr.runtime.paths import joined

HEADER_MAGIC, BLOCKS_MAGIC = b"LEHRTOK1", b"LEHRBLK1"
BLOCK = 128 << 10  # bytes: what is read at once from an object store, and checked
DIGEST = 16  # bytes of a block's SHA-256 that are kept
REMEDY = "delete this artifact and run again: only tokenization is repeated"
_Count = Annotated[int, Field(ge=1, le=1 << 48, strict=True)]
_MOST_HEADER = 1 << 20  # bytes: bounds what a damaged length makes us read


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shard(_Said):
    """One shard: its numbers of tokens and documents, the byte of its file at which the body begins, and its hash."""

    tokens: _Count
    documents: _Count
    offset: Annotated[int, Field(ge=17, le=_MOST_HEADER, strict=True)]
    sha256: str


class Listing(_Said):
    """The content of SOURCE.shards."""

    source: str
    dtype: Literal["<u2", "<u4"]
    tokenizer: str
    shards: Annotated[list[Shard], Field(min_length=1)]

    @property
    def item_bytes(self) -> int:
        return int(self.dtype[-1])

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    def header(self, number: int) -> dict[str, object]:
        """What the header of that shard says."""
        shard = self.shards[number]
        return header_of(self.source, number, self.dtype, self.tokenizer, shard.model_dump(exclude={"offset"}))


def header_of(source: str, number: int, dtype: str, tokenizer: str, counts: dict[str, object]) -> dict[str, object]:
    """A shard's header; `counts` are its tokens, documents and sha256."""
    return {"source": source, "number": number, "dtype": dtype, "tokenizer": tokenizer, **counts}


def header_bytes(header: dict[str, object]) -> bytes:
    """As it stands in the file: of a multiple of 64 bytes, so that the body is aligned."""
    raw = json.dumps(header, sort_keys=True).encode()
    return raw.ljust(-(-len(raw) // 64) * 64)


def listing_file(folder: Path, source: str) -> Path:
    """Raises UserError for a source whose name is no file's."""
    return joined(folder, source, ".shards")


def shard_file(folder: Path, source: str, number: int, kind: str) -> Path:
    """`kind` is tokens, blocks or spans."""
    return joined(folder, f"{source}-{number:05d}", f".{kind}")


def read_listing(folder: Path, source: str) -> Listing:
    """Raises UserError if it is missing or damaged, or another source's."""
    path = listing_file(folder, source)
    try:
        found = Listing.model_validate(read_object(path, REMEDY))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"damaged list of shards ({'.'.join(map(str, first['loc']))}: {validators_words(first['msg'])})"
        raise UserError(what, where=path, remedy=REMEDY) from None
    if found.source != source:
        raise UserError("these are the shards of another source", where=path, remedy=REMEDY)
    return found


def read_header(path: Path) -> tuple[dict[str, object], int]:
    """The header of a `.tokens` file, and the byte at which its body begins. Raises UserError for what is no such file."""
    try:
        with path.open("rb") as f:
            magic, length = f.read(8), int.from_bytes(f.read(8), "little")
            if magic != HEADER_MAGIC or length > _MOST_HEADER:
                raise UserError("this is not a token shard", where=path, remedy=REMEDY)
            try:
                header = json.loads(f.read(length))
            except (ValueError, RecursionError):
                header = None
    except FileNotFoundError:
        raise UserError("no such shard", where=path, remedy=REMEDY) from None
    if not isinstance(header, dict):
        raise UserError("damaged shard header", where=path, remedy=REMEDY)
    return header, 16 + length


class Blocks:
    """Collects the hashes of a body's blocks as its bytes come."""

    def __init__(self) -> None:
        self._hash, self._room = hashlib.sha256(), BLOCK
        self._digests = bytearray()

    def add(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        while view:
            taken = view[: self._room]
            self._hash.update(taken)
            self._room -= len(taken)
            view = view[len(taken) :]
            if not self._room:
                self._end()

    def _end(self) -> None:
        self._digests += self._hash.digest()[:DIGEST]
        self._hash, self._room = hashlib.sha256(), BLOCK

    def finish(self) -> bytes:
        """The content of a `.blocks` file. Nothing may be added any more."""
        if self._room < BLOCK:
            self._end()
        return BLOCKS_MAGIC + BLOCK.to_bytes(8, "little") + bytes(self._digests)


def hash_of(blocks: bytes) -> str:
    """A shard's hash, from the content of its `.blocks`."""
    return hashlib.sha256(blocks[len(BLOCKS_MAGIC) :]).hexdigest()


def read_blocks(path: Path, shard: Shard) -> bytes:
    """The blocks' digests, one after the other. Raises UserError unless they are those that the shard's hash vouches for."""
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(BLOCKS_MAGIC + BLOCK.to_bytes(8, "little")) or hash_of(content) != shard.sha256:
        raise UserError("missing or damaged hashes of a shard's blocks", where=path, remedy=REMEDY)
    return content[16:]


def verify_body(path: Path, shard: Shard) -> None:
    """Read a shard's whole body and compare it with its hash. Raises UserError if they differ."""
    blocks = Blocks()
    for piece in _pieces(path, shard.offset):
        blocks.add(piece)
    if hash_of(blocks.finish()) != shard.sha256:
        raise UserError("shard altered: its hash differs from what its source's list says", where=path, remedy=REMEDY)


def _pieces(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as f:
        f.seek(offset)
        while piece := f.read(1 << 20):
            yield piece
