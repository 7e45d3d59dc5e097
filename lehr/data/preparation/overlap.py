"""The second pass: what a part's training documents share with evaluation examples and held-back documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from lehr.config.decontamination import LeakedParagraphs
from lehr.data.decontaminate import Decontaminator, Shared
from lehr.data.ngram_words import tokens
from lehr.data.preparation.parts import Part
from lehr.data.preparation.rows import Rows
from lehr.runtime.paths import beside

_CHARACTERS = 1 << 22  # of texts searched in one call: bounds memory


class Overlap(NamedTuple):
    """A document, by its row in its part, the n-grams that it shares, and the keys of paragraphs that it seems to share."""

    row: int
    ngrams: int  # that the document has
    shared: Shared
    paragraphs: list[int]


@dataclass(frozen=True)
class FindOverlap:
    """The work on one part. `wanted` is a file with the rows of its training documents, ascending; `index` a folder."""

    part: Part
    index: Path
    rows: str  # the kind of the part's file that has its rows
    paragraphs: LeakedParagraphs | None

    def done(self) -> bool:
        return self.part.file("overlap.npz").is_file()

    def fetched(self) -> Self:
        return self

    def __call__(self) -> None:
        index = Decontaminator.load(self.index, self.paragraphs)
        rows = np.load(self.part.file("train.npy"), allow_pickle=False)
        found = list[Overlap]()
        for batch in _batches(Rows(self.part.file(self.rows)), rows):
            for (row, text), shared in zip(batch, index.shared(text for _, text in batch), strict=True):
                suspects = index.suspects(text, shared)
                if shared or suspects:
                    found.append(Overlap(row, max(0, len(tokens(text)) - index.n + 1), shared, suspects))
        path = self.part.file("overlap.npz")
        partial = beside(path)
        with partial.open("wb") as file:
            np.savez(
                file,
                rows=np.array([each.row for each in found], np.int64),
                sizes=np.array([each.ngrams for each in found], np.int64),
                ends=np.cumsum([len(each.shared) for each in found], dtype=np.int64),
                grams=np.fromiter((gram for each in found for gram in each.shared), np.int64),
                paragraph_ends=np.cumsum([len(each.paragraphs) for each in found], dtype=np.int64),
                paragraphs=np.fromiter((key for each in found for key in each.paragraphs), np.uint64),
            )
        partial.replace(path)


def overlaps(part: Part) -> Iterator[Overlap]:
    """What FindOverlap found, in order of rows."""
    names = ("rows", "sizes", "ends", "grams", "paragraph_ends", "paragraphs")
    with np.load(part.file("overlap.npz"), allow_pickle=False) as saved:
        rows, sizes, ends, grams, paragraph_ends, paragraphs = (saved[name] for name in names)
    start = first = 0
    for row, size, end, last in zip(rows.tolist(), sizes.tolist(), ends.tolist(), paragraph_ends.tolist(), strict=True):
        yield Overlap(row, size, grams[start:end].tolist(), paragraphs[first:last].tolist())
        start, first = end, last


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
