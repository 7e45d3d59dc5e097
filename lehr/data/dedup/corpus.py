"""All of a corpus' documents held against each other, and against earlier corpora: by URL, by text, by similarity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from lehr.config.deduplication import Deduplication
from lehr.data.dedup.files import Signatures, keep_signatures
from lehr.data.dedup.fuzzy import Apply, near_duplicates
from lehr.data.dedup.signer import Signer
from lehr.data.dedup.verify import Texts, Verifier
from lehr.data.joins import I64, Joins, Keyed
from lehr.runtime.errors import UserError

REASONS = ("duplicate url", "exact duplicate", "near duplicate")  # by the number that a record holds
DROPPED = np.dtype([("number", "<i8"), ("kept", "<i8"), ("reason", "u1"), ("similarity", "<f4")])
_BATCH = 1 << 14  # records at a time
_EARLIER = np.inf  # the priority of earlier corpora's documents, before all others


@dataclass(frozen=True)
class Corpora:
    """The signatures of a corpus, and of earlier ones. Document n is the one in row n of the files of `own`, in their
    order."""

    config: Deduplication
    own: Signatures
    earlier: Signatures

    @staticmethod
    def open(config: Deduplication, paths: Sequence[Path]) -> Corpora:
        """From the files of the corpus and the folders of `config.against`. Raises UserError for files that cannot be
        compared."""
        signer = Signer(config)
        against = [path for folder in config.against for path in _signature_files(Path(folder))]
        return Corpora(config, Signatures(paths, signer), Signatures(against, signer, earlier=True))

    def duplicates(self, joins: Joins, texts: Texts, apply: Apply = map) -> np.ndarray:
        """The documents to drop, as records of `DROPPED` in the order of their numbers.

        `kept` is the document in whose place each is dropped; a negative number is one of an earlier corpus. One that
        was kept by its URL or text may itself be a near-duplicate of another: then it has a record of its own.
        `similarity` is the Jaccard similarity of a near-duplicate with the kept one, else 1. 21 bytes of memory for
        each dropped document, once all joins are done; until then they are in a nameless file beside the signatures."""
        with TemporaryFile(dir=self.own.folder) as found:
            for records in self._found(joins, texts, apply):
                found.write(records.data)
            found.seek(0)
            result = np.fromfile(found, DROPPED)
        result.sort(order="number")  # in place
        return result

    def _found(self, joins: Joins, texts: Texts, apply: Apply) -> Iterator[np.ndarray]:
        dropped = _Marks(len(self.own))
        for reason, field in enumerate(("url", "exact")):
            if getattr(self.config, field):
                for numbers, firsts in joins.copies(self._keys(field, dropped)):  # after the last row
                    dropped.add(numbers)
                    yield _records(numbers, firsts, reason)
        if self.config.fuzzy:
            verify = Verifier(self.config.fuzzy, self.own, self.earlier, texts)
            buckets = joins.buckets(self._bands(dropped))
            del dropped
            near = near_duplicates(buckets, verify, len(self.earlier), len(self.own), apply)
            rows = ((number, kept, 2, value) for number, kept, value in near)
            while len(batch := np.fromiter(islice(rows, _BATCH), DROPPED)):
                yield batch

    def save(self, folder: Path, dropped: np.ndarray, texts: Texts) -> None:
        """Keep the signatures of what stays, in a folder for `against` of later corpora. Takes 8 bytes for each shingle."""
        signer = Signer(self.config)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "documents.sig"
        keep_signatures(self.own, dropped["number"], path, signer, lambda numbers: signer.sets(texts(numbers.tolist())))

    def _keys(self, field: str, dropped: _Marks) -> Iterator[Keyed]:
        for numbers, records in self._rows(dropped):
            keys = records[field].astype(np.uint64)
            there = keys.any(axis=1)  # zeros: no URL
            yield Keyed(keys[there], numbers[there], np.zeros(int(there.sum())))

    def _bands(self, dropped: _Marks) -> Iterator[Keyed]:
        for numbers, records in self._rows(dropped):
            there = records["shingles"] > 0  # a text without words is similar to none
            keys = records["bands"][there].astype(np.uint64)
            bands = keys.shape[1]
            priorities = np.where(numbers[there] < 0, _EARLIER, records["priority"][there])
            yield Keyed(keys.reshape(-1, 1), np.repeat(numbers[there], bands), np.repeat(priorities, bands))

    def _rows(self, dropped: _Marks) -> Iterator[tuple[I64, np.ndarray]]:
        for start, records in self.earlier.batches():
            yield np.arange(start, start + len(records)), records
        for start, records in self.own.batches():
            left = ~dropped.of(start, start + len(records))
            yield np.arange(start, start + len(records))[left], records[left]


class _Marks:
    """A bit for each of the numbers 0 ... count - 1."""

    def __init__(self, count: int) -> None:
        self._bits = np.zeros(-(-count // 8), np.uint8)

    def add(self, numbers: I64) -> None:
        np.bitwise_or.at(self._bits, numbers >> 3, np.uint8(1) << (numbers & 7).astype(np.uint8))

    def of(self, start: int, end: int) -> NDArray[np.bool_]:
        """Of each number from `start` to `end` - 1 whether it was added."""
        first = start // 8
        bits = np.unpackbits(self._bits[first : -(-end // 8)], bitorder="little")
        return bits[start - 8 * first : end - 8 * first].astype(bool)


def _records(numbers: I64, kept: I64, reason: int) -> np.ndarray:
    found = np.empty(len(numbers), DROPPED)
    found["number"], found["kept"], found["reason"], found["similarity"] = numbers, kept, reason, 1
    return found


def _signature_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.sig"))
    if not found:
        raise UserError("there are no signatures of an earlier corpus", where=folder, remedy="make it with deduplication.save")
    return found
