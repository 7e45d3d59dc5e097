"""Token shards: a source's tokens as one sequence, and its documents, from a folder or from where a copy has left them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from lehr.artifacts.elsewhere import Elsewhere, elsewhere
from lehr.artifacts.object_store import ranges
from lehr.data.spans import read_spans, scattered
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.documents import Documents
from lehr.data.tokens.files import REMEDY, Listing, listing_file, read_header, read_listing, shard_file
from lehr.data.tokens.remote import RemoteShard
from lehr.runtime.errors import UserError

__all__ = ["ShardSet"]

SPANS_CHECKED = 1024  # documents whose spans are checked when a source is opened
_MAPPED = 256  # shards that are mapped at once: each holds a file open


class Tokens(Protocol):
    """Some tokens, of which slices are read: an array, a shard in a store, or several shards."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice) -> np.ndarray: ...


class Joined:
    """The tokens of several shards as one sequence. `opened(number)` is a shard's."""

    def __init__(self, sizes: Sequence[int], opened: Callable[[int], Tokens]) -> None:
        self._first = np.array([0, *accumulate(sizes)])
        self.opened = lru_cache(_MAPPED)(opened)

    def __len__(self) -> int:
        return int(self._first[-1])

    def parts(self, begin: int, end: int) -> list[tuple[int, int, int]]:
        """The shards that hold the tokens `begin` to `end`: (number, first token in it, end in it)."""
        found = []
        number = int(np.searchsorted(self._first, begin, side="right")) - 1
        while begin < end:
            first, after = int(self._first[number]), min(end, int(self._first[number + 1]))
            found.append((number, begin - first, after - first))
            begin, number = after, number + 1
        return found

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        pieces = [self.opened(number)[first:after] for number, first, after in self.parts(begin, max(begin, end))]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces) if pieces else self.opened(0)[:0]


@dataclass(frozen=True)
class ShardSet:
    """One source's tokens, and its documents. `remote`: tokens are read from a store, and it pays to `want` them before."""

    source: str
    tokens: Tokens
    documents: Documents
    remote: bool = False

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def open(cls, folder: str | Path, source: str, tokenizer: str | Tokenizer) -> ShardSet:
        """Open a source; the cost does not grow with its number of tokens or documents. `tokenizer` is the hash of the one that
        made it, or a tokenizer that may have grown since. Raises UserError for a truncated or damaged file, for spans that do
        not fit the body, and for shards of another tokenizer. What a copy has left in a store is checked when it is read."""
        folder = Path(folder)
        listing = read_listing(folder, source)
        made = listing.tokenizer
        if not (made == tokenizer if isinstance(tokenizer, str) else tokenizer.reads(made)):
            found = tokenizer if isinstance(tokenizer, str) else tokenizer.hash
            what = f"made with another tokenizer ({made[:12]}, this run's is {found[:12]})"
            raise UserError(what, where=listing_file(folder, source), remedy=REMEDY)
        there = elsewhere(folder)
        numbers = range(len(listing.shards))
        here = [shard_file(folder, source, number, "tokens").is_file() for number in numbers]
        checked = max(1, SPANS_CHECKED // len(listing.shards))
        for number in numbers:
            if here[number]:
                _check(folder, listing, number, checked)
            elif there is None:
                raise UserError("no such shard", where=shard_file(folder, source, number, "tokens"), remedy=REMEDY)

        def opened(number: int) -> Tokens:
            return _mapped(folder, listing, number) if here[number] else _remote(folder, there, listing, number)

        # A plain array where there is one: the quickest to slice.
        joined = opened(0) if len(numbers) == 1 else Joined([shard.tokens for shard in listing.shards], opened)
        fetched = partial(_brought, folder, there)
        spans, ids = (lambda n: fetched(shard_file(folder, source, n, "spans").name)), (lambda: fetched(f"{source}.ids"))
        return cls(source, joined, Documents(listing.shards, spans, ids), remote=not all(here))

    def want(self, begin: int, end: int) -> None:
        """These tokens are needed soon: begin to read them, where they are in a store."""
        if isinstance(self.tokens, Joined):
            for number, first, after in self.tokens.parts(begin, min(end, len(self))):
                if isinstance(shard := self.tokens.opened(number), RemoteShard):
                    shard.want(first, after)
        elif isinstance(self.tokens, RemoteShard):
            self.tokens.want(begin, min(end, len(self)))


def _remote(folder: Path, there: Elsewhere | None, listing: Listing, number: int) -> RemoteShard:
    assert there is not None
    return RemoteShard(folder, there, listing, number)


def _brought(folder: Path, there: Elsewhere | None, name: str) -> Path:
    return ranges.bring(folder, there, name) if there is not None and name in there.files else folder / name


def _mapped(folder: Path, listing: Listing, number: int) -> np.ndarray:
    return _map(folder, listing, number)[0]


def _map(folder: Path, listing: Listing, number: int) -> tuple[np.ndarray, mmap.mmap]:
    shard = listing.shards[number]
    with shard_file(folder, listing.source, number, "tokens").open("rb") as f:
        mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    # A plain array: slicing a memmap makes another memmap, which takes ten times as long.
    return np.frombuffer(mapped, listing.dtype, shard.tokens, shard.offset), mapped


def _check(folder: Path, listing: Listing, number: int, most: int) -> None:
    """Raises UserError unless that shard's files are as the list of shards says."""
    path, shard = shard_file(folder, listing.source, number, "tokens"), listing.shards[number]
    header, offset = read_header(path)
    if header != listing.header(number) or offset != shard.offset:
        raise UserError("damaged shard header", where=path, remedy=REMEDY)
    expected, found = offset + shard.tokens * listing.item_bytes, path.stat().st_size
    if found != expected:
        raise UserError(f"truncated or grown: {found} bytes instead of {expected}", where=path, remedy=REMEDY)
    tokens, mapped = _map(folder, listing, number)
    spans = shard_file(folder, listing.source, number, "spans")
    ids, starts = read_spans(spans, REMEDY)
    with scattered(mapped):
        fit = len(ids) == shard.documents and _fit(starts, tokens, most)
    if not fit:
        raise UserError("document spans do not fit the tokens", where=spans, remedy=REMEDY)


def _fit(starts: np.ndarray, tokens: np.ndarray, most: int) -> bool:
    """Whether spans that begin at `starts` cover the body: the first begins at 0, and all end in the same token, end of text.

    Of many documents only `most`, spread evenly, are checked, including the last; the artifact's hashes cover the rest.
    """
    if starts[0] != 0:
        return False
    numbers = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), most)).astype(np.int64))
    begins = starts[numbers]
    ends = np.where(numbers + 1 < len(starts), starts[np.minimum(numbers + 1, len(starts) - 1)], len(tokens))
    if (ends <= begins).any() or (begins[1:] < ends[:-1]).any() or ends[-1] > len(tokens):
        return False
    return bool((tokens[ends - 1] == tokens[-1]).all())
