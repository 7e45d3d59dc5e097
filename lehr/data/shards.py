"""Token shards: one file a source, with a header that says what it is and spans that say where documents begin.

`SOURCE.tokens` = 8-byte magic, 8-byte little-endian header length, JSON header, body of little-endian uint16 or uint32.
`SOURCE.spans` = JSON lines [document id, first token]. The end-of-text token follows each document and belongs to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.data.document import Document
from lehr.data.tokenizer import Tokenizer
from lehr.errors import UserError

_MAGIC = b"LEHRTOK1"
_FIELDS = {"source", "dtype", "tokens", "documents", "tokenizer", "sha256"}
_DTYPES = ("<u2", "<u4")
_BATCH = 512  # documents tokenized at a time
_REMEDY = "delete this artifact and run again: only tokenization is repeated"


def write_shard(documents: Iterable[Document], source: str, tokenizer: Tokenizer, folder: Path) -> int:
    """Tokenize `documents` into `folder`/SOURCE.tokens and .spans; returns the number of tokens."""
    dtype = np.dtype("<u2") if tokenizer.vocab_size <= 1 << 16 else np.dtype("<u4")
    body, digest, spans, count = folder / f"{source}.body", hashlib.sha256(), [], 0
    with body.open("wb") as f:
        for batch in _batches(documents):
            for document, ids in zip(batch, tokenizer.encode_batch([d.text for d in batch]), strict=True):
                spans.append([document.id, count])
                count += len(ids) + 1
                block = np.array([*ids, tokenizer.eos_id], dtype=dtype).tobytes()
                digest.update(block)
                f.write(block)
    (folder / f"{source}.spans").write_text("".join(json.dumps(s) + "\n" for s in spans), encoding="utf-8")
    header = json.dumps(
        {
            "source": source,
            "dtype": dtype.str,
            "tokens": count,
            "documents": len(spans),
            "tokenizer": tokenizer.hash,
            "sha256": digest.hexdigest(),
        },
        sort_keys=True,
    ).encode()
    header += b" " * (-len(header) % 64)  # the body begins aligned
    with (folder / f"{source}.tokens").open("wb") as out, body.open("rb") as f:
        out.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        while block := f.read(1 << 20):
            out.write(block)
    body.unlink()
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
    """One source's tokens, memory-mapped, and its documents' ids and first tokens."""

    source: str
    tokens: np.ndarray
    document_ids: list[str]
    document_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def open(cls, path: str | Path, tokenizer_hash: str) -> ShardSet:
        """Open `SOURCE.tokens` with its spans. Raises UserError for a truncated or damaged file, for spans that do not
        cover the body, and for a shard of another tokenizer."""
        path = Path(path)
        header, offset = _read_header(path)
        if header["tokenizer"] != tokenizer_hash:
            raise UserError(
                f"made with another tokenizer ({header['tokenizer'][:12]}, this run's is {tokenizer_hash[:12]})",
                where=path,
                remedy=_REMEDY,
            )
        dtype = np.dtype(header["dtype"])
        expected = offset + header["tokens"] * dtype.itemsize
        if path.stat().st_size != expected:
            raise UserError(
                f"truncated or grown: {path.stat().st_size} bytes instead of {expected}", where=path, remedy=_REMEDY
            )
        tokens = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(header["tokens"],))
        ids, starts = _read_spans(path.with_suffix(".spans"))
        if len(ids) != header["documents"] or not _cover(starts, tokens):
            raise UserError("document spans do not fit the tokens", where=path.with_suffix(".spans"), remedy=_REMEDY)
        return cls(header["source"], tokens, ids, starts)

    def document_at(self, token: int) -> str:
        """The id of the document that token number `token` belongs to."""
        return self.document_ids[int(np.searchsorted(self.document_starts, token, side="right")) - 1]


def _read_spans(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [str(id_) for id_, _ in rows], np.array([start for _, start in rows], dtype=np.int64)
    except FileNotFoundError:
        raise UserError("no such document spans", where=path, remedy=_REMEDY) from None
    except (ValueError, TypeError):
        raise UserError("damaged document spans", where=path, remedy=_REMEDY) from None


def _cover(starts: np.ndarray, tokens: np.ndarray) -> bool:
    """Whether spans that begin at `starts` make up the body: the first at 0, and all ending in one token, the end of text."""
    if not len(starts) or starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= len(tokens):
        return False
    ends = np.append(starts[1:], len(tokens)) - 1
    return bool((tokens[ends] == tokens[ends[0]]).all())


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as f:
            magic, length = f.read(8), int.from_bytes(f.read(8), "little")
            if magic != _MAGIC or length > 1 << 20:
                raise UserError("this is not a token shard", where=path, remedy=_REMEDY)
            header: dict[str, Any] = json.loads(f.read(length))
            if set(header) != _FIELDS or header["dtype"] not in _DTYPES:
                raise UserError("damaged shard header", where=path, remedy=_REMEDY)
            return header, 16 + length
    except FileNotFoundError:
        raise UserError("no such shard", where=path, remedy=_REMEDY) from None
    except ValueError:
        raise UserError("damaged shard header", where=path, remedy=_REMEDY) from None


def verify_body(path: Path) -> None:
    """Compare the body's SHA-256 with the header's. Raises UserError."""
    header, offset = _read_header(path)
    digest = hashlib.sha256()
    with path.open("rb") as f:
        f.seek(offset)
        while block := f.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != header["sha256"]:
        raise UserError("shard altered: its SHA-256 differs from the header's", where=path, remedy=_REMEDY)
