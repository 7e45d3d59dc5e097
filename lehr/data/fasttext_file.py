"""Classifiers that fastText trained (`.bin`), such as the one of DCLM that OLMo 2 filters by, and Dolma's for toxic sentences.

The matrices of a supervised model are multiplied when it is read: a text's logits are then the mean of one row for each of its
words and n-grams. Read are models with softmax loss and without quantisation or subwords. Letters: V words, R rows (words and
buckets), D dimensions, L labels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lehr.data.hashed import WordHashes, ngrams, words_of
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import refuse_pointer

_MAGIC, _VERSION, _SOFTMAX, _SUPERVISED, _ROWS = 793712314, 12, 3, 3, 1 << 16
_REMEDY = "give a supervised fastText model (.bin), trained with softmax loss and not quantised"
_ADDED = 1e-5  # to every probability that fastText reports: it takes the logarithm of p + 1e-5
_END = "</s>"  # fastText's word for the end of a line
_PREFIX = "__label__"


@dataclass
class FastText:
    """P(label) of a text on one line. `table_RL` float32; `words` -> row."""

    words: dict[str, int]
    table_RL: np.ndarray
    label: int
    most_words: int
    _hashes: WordHashes = field(default_factory=WordHashes)

    def __call__(self, text: str) -> float:
        words = [*words_of(text), _END]
        rows = [row for row in map(self.words.get, words) if row is not None]
        found = np.array(rows, np.int64)
        if self.most_words > 1:
            buckets = len(self.table_RL) - len(self.words)
            more = ngrams(self._hashes.of(words), range(2, self.most_words + 1), buckets)
            found = np.concatenate([found, len(self.words) + more])
        if not len(found):
            return 0.0  # fastText predicts no label then
        logits_L = self.table_RL[found].mean(0, dtype=np.float64)
        likely_L = np.exp(logits_L - logits_L.max())
        return min(float(likely_L[self.label] / likely_L.sum()) + _ADDED, 1.0)

    @staticmethod
    def read(path: Path, label: str) -> FastText:
        """Raises UserError for a file that is damaged or holds another kind of model, and for a label that it does not have."""
        refuse_pointer(path)
        try:
            with path.open("rb") as file:
                return _read(_Reader(file.read()), path, label)
        except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
            raise UserError(f"damaged fastText model ({error})", where=path, remedy=_REMEDY) from None


class _Reader:
    """Little-endian values, one after another. Raises struct.error or ValueError at the end of the file."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.place = raw, 0

    def take(self, layout: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{layout}", self.raw, self.place)
        self.place += struct.calcsize(f"<{layout}")
        return found

    def text(self) -> str:
        end = self.raw.index(b"\0", self.place)
        found = self.raw[self.place : end].decode("utf-8", "surrogateescape")
        self.place = end + 1
        return found

    def matrix(self) -> np.ndarray:
        """float32 [rows, columns], not copied."""
        rows, columns = self.take("qq")
        found = np.frombuffer(self.raw, "<f4", rows * columns, self.place).reshape(rows, columns)
        self.place += found.nbytes
        return found


def _read(reader: _Reader, path: Path, label: str) -> FastText:
    magic, version = reader.take("ii")
    if magic != _MAGIC or version != _VERSION:
        raise UserError("this is no fastText model of version 12", where=path, remedy=_REMEDY)
    *_, most_words, loss, model, _, shortest, longest, _ = reader.take("12i")
    reader.take("d")
    if model != _SUPERVISED or loss != _SOFTMAX or longest > 0 or shortest > 0:
        raise UserError(
            "this fastText model is not supervised, not of softmax loss, or has subwords", where=path, remedy=_REMEDY
        )
    size, count, _, _, pruned = reader.take("iiiqq")
    if pruned > 0:
        raise UserError("this fastText model is quantised", where=path, remedy=_REMEDY)
    words, labels = dict[str, int](), list[str]()
    for number in range(size):
        text = reader.text()
        _, is_label = reader.take("qb")
        if is_label:
            labels.append(text)
        else:
            words[text] = number
    if reader.take("b")[0]:
        raise UserError("this fastText model is quantised", where=path, remedy=_REMEDY)
    rows_RD = reader.matrix()
    if reader.take("b")[0]:
        raise UserError("this fastText model is quantised", where=path, remedy=_REMEDY)
    outputs_LD = reader.matrix()
    if len(words) != count or len(labels) != len(outputs_LD) or len(rows_RD) < count or rows_RD.shape[1] != outputs_LD.shape[1]:
        raise ValueError("its parts do not agree")
    wanted = label.removeprefix(_PREFIX)
    names = [name.removeprefix(_PREFIX) for name in labels]
    if wanted not in names:
        shown = ", ".join(names[:10])
        raise UserError(f"label {label!r} is not one of this model's: {shown}", where=path, remedy="set `label` to one of them")
    # In blocks: the product is small, and so are its parts.
    blocks = [rows_RD[start : start + _ROWS] @ outputs_LD.T for start in range(0, len(rows_RD), _ROWS)]
    return FastText(words, np.concatenate(blocks), names.index(wanted), most_words)
