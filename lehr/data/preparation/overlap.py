"""The second pass: which n-grams the training documents of a part share with evaluation examples and held-back documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from lehr.data.decontaminate import Decontaminator, Shared, tokens
from lehr.data.preparation.parts import Part
from lehr.data.preparation.rows import Rows
from lehr.runtime.paths import beside

_CHARACTERS = 1 << 22  # of texts searched in one call: bounds memory


class Overlap(NamedTuple):
    """A document, by its row in its part, and the n-grams that it shares."""

    row: int
    ngrams: int  # that the document has
    shared: Shared


@dataclass(frozen=True)
class FindOverlap:
    """The work on one part. `wanted` is a file with the rows of its training documents, ascending; `index` a folder."""

    part: Part
    index: Path
    rows: str  # the kind of the part's file that has its rows

    def done(self) -> bool:
        return self.part.file("overlap.npz").is_file()

    def fetched(self) -> Self:
        return self

    def __call__(self) -> None:
        index = Decontaminator.load(self.index)
        rows = np.load(self.part.file("train.npy"), allow_pickle=False)
        numbers, sizes, ends, grams = list[int](), list[int](), list[int](), list[np.ndarray]()
        for batch in _batches(Rows(self.part.file(self.rows)), rows):
            for (row, text), shared in zip(batch, index.shared(text for _, text in batch), strict=True):
                if shared:
                    numbers.append(row)
                    sizes.append(len(tokens(text)) - index.n + 1)
                    grams.append(np.array(shared, np.int64))
                    ends.append((ends[-1] if ends else 0) + len(shared))
        path = self.part.file("overlap.npz")
        partial = beside(path)
        every = np.concatenate([np.zeros(0, np.int64), *grams])
        rows, counts = np.array(numbers, np.int64), np.array(sizes, np.int64)
        with partial.open("wb") as file:
            np.savez(file, rows=rows, sizes=counts, ends=np.array(ends, np.int64), grams=every)
        partial.replace(path)


def overlaps(part: Part) -> Iterator[Overlap]:
    """What FindOverlap found, in order of rows."""
    with np.load(part.file("overlap.npz"), allow_pickle=False) as found:
        rows, sizes, ends, grams = found["rows"], found["sizes"], found["ends"], found["grams"]
    start = 0
    for row, size, end in zip(rows.tolist(), sizes.tolist(), ends.tolist(), strict=True):
        yield Overlap(row, size, grams[start:end].tolist())
        start = end


def _batches(every: Rows, rows: np.ndarray) -> Iterator[list[tuple[int, str]]]:
    batch, size = list[tuple[int, str]](), 0
    wanted: Sequence[int] = rows.tolist()
    for number, row in zip(wanted, every.at(wanted), strict=True):
        batch.append((number, row["text"]))
        size += len(row["text"])
        if size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
