"""Token shards: for each source a file of tokens with a header, and spans that record where documents begin.

`SOURCE.tokens` = 8-byte magic, 8-byte little-endian header length, JSON header, body of little-endian uint16 or uint32.
`SOURCE.spans` (lehr.data.spans) = each document's id and first token. An end-of-text token follows each document and
belongs to it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.data.document import Document
from lehr.data.spans import DocumentIds, SpansWriter, read_spans, scattered
from lehr.data.tokenizer import Tokenizer
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in
from lehr.runtime.paths import joined

HEADER_MAGIC = b"LEHRTOK1"
_FIELDS = {"source": str, "dtype": str, "tokens": int, "documents": int, "tokenizer": str, "sha256": str}
_DTYPES = ("<u2", "<u4")
_BATCH = 512  # documents tokenized in one call
SPANS_CHECKED = 1024  # documents whose spans are checked when a shard is opened
_REMEDY = "delete this artifact and run again: only tokenization is repeated"


def write_shard(documents: Iterable[Document], source: str, tokenizer: Tokenizer, folder: Path) -> int:
    """Tokenize `documents` into `folder`/SOURCE.tokens and .spans; returns the number of tokens. Memory does not grow with
    their number. The header is written last, so an unfinished shard is not readable as one."""
    dtype, end = tokenizer.dtype, np.array(tokenizer.eos_id, tokenizer.dtype).tobytes()
    path, digest, count, written = joined(folder, source, ".tokens"), hashlib.sha256(), 0, 0

    def header(tokens: int, documents: int) -> bytes:
        fields = {"source": source, "dtype": dtype.str, "tokens": tokens, "documents": documents}
        return json.dumps({**fields, "tokenizer": tokenizer.hash, "sha256": digest.hexdigest()}, sort_keys=True).encode()

    # Space for the longest possible header, written when the counts are known; a multiple of 64, so that the body is aligned.
    room = -(-len(header(10**18, 10**18)) // 64) * 64
    with path.open("wb") as f, SpansWriter(path.with_suffix(".spans")) as spans:
        f.seek(len(HEADER_MAGIC) + 8 + room)
        for batch in _batches(documents):
            for document, ids in zip(batch, tokenizer.encode_batch([d.text for d in batch]), strict=True):
                spans.add(document.id, count)
                count += len(ids) + 1
                block = ids.tobytes() + end
                digest.update(block)
                f.write(block)
            written += len(batch)
        f.seek(0)
        f.write(HEADER_MAGIC + room.to_bytes(8, "little") + header(count, written).ljust(room))
    return count


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class ShardSet:
    """One source's tokens, and the ids and first tokens of its documents, all memory-mapped."""

    source: str
    tokens: np.ndarray
    document_ids: DocumentIds
    document_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def open(cls, path: str | Path, tokenizer: str | Tokenizer) -> ShardSet:
        """Open `SOURCE.tokens` with its spans; the cost does not grow with their size. `tokenizer` is the hash of the one that
        made it, or a tokenizer that may have grown since. Raises UserError for a truncated or damaged file, for spans that do
        not fit the body, and for a shard of another tokenizer."""
        path = Path(path)
        header, offset = _read_header(path)
        made = header["tokenizer"]
        if not (made == tokenizer if isinstance(tokenizer, str) else tokenizer.reads(made)):
            found = tokenizer if isinstance(tokenizer, str) else tokenizer.hash
            raise UserError(
                f"made with another tokenizer ({made[:12]}, this run's is {found[:12]})",
                where=path,
                remedy=_REMEDY,
            )
        dtype = np.dtype(header["dtype"])
        expected = offset + header["tokens"] * dtype.itemsize
        if path.stat().st_size != expected:
            raise UserError(
                f"truncated or grown: {path.stat().st_size} bytes instead of {expected}", where=path, remedy=_REMEDY
            )
        with path.open("rb") as f:
            mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        # A plain array: slicing a memmap makes another memmap, which takes ten times as long.
        tokens = np.frombuffer(mapped, dtype, header["tokens"], offset)
        ids, starts = read_spans(path.with_suffix(".spans"), _REMEDY)
        with scattered(mapped):
            fit = len(ids) == header["documents"] and _fit(starts, tokens)
        if not fit:
            raise UserError("document spans do not fit the tokens", where=path.with_suffix(".spans"), remedy=_REMEDY)
        return cls(header["source"], tokens, ids, starts)

    def document_at(self, token: int) -> str:
        """The id of the document to which token number `token` belongs."""
        return self.document_ids[int(np.searchsorted(self.document_starts, token, side="right")) - 1]


def _fit(starts: np.ndarray, tokens: np.ndarray) -> bool:
    """Whether spans that begin at `starts` cover the body: the first begins at 0, and all end in the same token, end of text.

    Of many documents only SPANS_CHECKED, spread evenly, are checked, including the last; the artifact's hashes cover the rest.
    """
    if starts[0] != 0:
        return False
    numbers = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), SPANS_CHECKED)).astype(np.int64))
    begins = starts[numbers]
    ends = np.where(numbers + 1 < len(starts), starts[np.minimum(numbers + 1, len(starts) - 1)], len(tokens))
    if (ends <= begins).any() or (begins[1:] < ends[:-1]).any() or ends[-1] > len(tokens):
        return False
    return bool((tokens[ends - 1] == tokens[-1]).all())


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as f:
            magic, length = f.read(8), int.from_bytes(f.read(8), "little")
            if magic != HEADER_MAGIC or length > 1 << 20:  # bounds what a damaged length makes us read
                raise UserError("this is not a token shard", where=path, remedy=_REMEDY)
            header = object_in(f.read(length), str(path), _REMEDY)
            known = set(header) == _FIELDS.keys() and all(type(header[key]) is kind for key, kind in _FIELDS.items())
            if not known or header["dtype"] not in _DTYPES or header["tokens"] < 1:
                raise UserError("damaged shard header", where=path, remedy=_REMEDY)
            return header, 16 + length
    except FileNotFoundError:
        raise UserError("no such shard", where=path, remedy=_REMEDY) from None


def verify_body(path: Path) -> None:
    """Check the body's SHA-256 against the header's. Raises UserError if they differ."""
    header, offset = _read_header(path)
    digest = hashlib.sha256()
    with path.open("rb") as f:
        f.seek(offset)
        while block := f.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != header["sha256"]:
        raise UserError("shard altered: its SHA-256 differs from the header's", where=path, remedy=_REMEDY)
