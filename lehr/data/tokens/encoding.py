"""Documents to ids, in as many processes as there are; results come in the documents' order, whatever the number."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lehr.data.document import Document, document_of
from lehr.data.lines import LONGEST, lines
from lehr.data.preparation.workers import begin
from lehr.data.tokenizer import Tokenizer
from lehr.runtime.errors import InfraError, UserError, from_words, in_words

_TOGETHER = 512  # documents encoded in one call
_PIECE = 1 << 20  # bytes of text handed to a process at once, and at least one document
_DEATHS = 8  # times that processes are killed within one source before its stage gives up


@dataclass(frozen=True)
class Encoded:
    """Some documents, one after the other: the ids that name them (UTF-8), how many tokens each has, its end of text included,
    and the tokens as they are in a shard's body."""

    names: list[bytes]
    tokens: np.ndarray
    body: bytes


@dataclass(frozen=True)
class Lines:
    """Lines of a source's file of kept documents, with their numbers."""

    path: Path
    source: str
    rows: list[tuple[int, bytes]]


def encode(documents: Sequence[Document], tokenizer: Tokenizer) -> Encoded:
    """The ids of each text, and an end of text after it."""
    end, body, counts = np.array(tokenizer.eos_id, tokenizer.dtype).tobytes(), list[bytes](), list[int]()
    for first in range(0, len(documents), _TOGETHER):
        for ids in tokenizer.encode_batch([d.text for d in documents[first : first + _TOGETHER]]):
            body += ids.tobytes(), end
            counts.append(len(ids) + 1)
    return Encoded([d.id.encode() for d in documents], np.array(counts, np.int64), b"".join(body))


def encoded(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[Encoded]:
    """Of documents in memory, in this process."""
    rest = iter(documents)
    while some := list(islice(rest, _TOGETHER)):
        yield encode(some, tokenizer)


def pieces(path: Path, source: str, after: int) -> Iterator[Lines]:
    """The lines of a file of kept documents after the first `after`, in pieces. Raises UserError for a source without
    documents, and as `lines` does."""
    rows, size, found = list[tuple[int, bytes]](), 0, 0
    # A line holds the id and source beside the text, and escapes lengthen it.
    for found, row in enumerate(lines(path, 2 * LONGEST), 1):
        if found <= after:
            continue
        rows.append(row)
        size += len(row[1])
        if size >= _PIECE:
            yield Lines(path, source, rows)
            rows, size = [], 0
    if rows:
        yield Lines(path, source, rows)
    if not found:
        raise UserError(f"source {source!r} is empty", where=path, remedy="add documents to it, or remove it from the recipe")


def of_lines(piece: Lines, tokenizer: Tokenizer) -> Encoded:
    """Raises UserError as `read_jsonl` does."""
    return encode([document_of(raw, f"{piece.path}:{n}", piece.source, n) for n, raw in piece.rows], tokenizer)


def in_order(given: Iterable[Lines], tokenizer: Path, workers: int) -> Iterator[Encoded]:
    """Each piece's ids, in order, by `workers` processes with the tokenizer in that folder. A piece that a killed process had
    is given to another one. Raises what reading and encoding raise, and InfraError if processes keep being killed."""
    rest, waiting = iter(given), deque[Lines]()
    for _ in range(_DEATHS):
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (tokenizer,))
        try:
            running = deque(pool.submit(_encode, piece) for piece in waiting)
            while True:
                while len(running) < 2 * workers + 1 and (piece := next(rest, None)) is not None:
                    waiting.append(piece)
                    running.append(pool.submit(_encode, piece))
                if not running:
                    return
                made = _made(running[0])
                running.popleft()
                waiting.popleft()
                yield made
        except BrokenProcessPool:
            continue
        finally:
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
            pool.shutdown(cancel_futures=True)
    what = f"{_DEATHS} times a process that tokenized was killed, perhaps for want of memory"
    raise InfraError(f"{what}; run again with lower data.processes: finished shards are kept")


def _made(future: Future[Encoded | dict[str, str]]) -> Encoded:
    found = future.result()
    if isinstance(found, dict):
        raise from_words(found)
    return found


_own: dict[str, Tokenizer] = {}  # of a process that encodes


def _begin(tokenizer: Path) -> None:
    begin()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the library's threads would compete with the other processes
    _own["tokenizer"] = Tokenizer.load(tokenizer)


def _encode(piece: Lines) -> Encoded | dict[str, str]:
    """Errors as words: not every exception survives pickling."""
    try:
        return of_lines(piece, _own["tokenizer"])
    except Exception as error:  # noqa: BLE001 - told to the process that gave the work
        return in_words(error)
