"""A second engine, in memory; corpora; the rule in plain Python."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lehr.config.deduplication import Deduplication
from lehr.data.dedup import Corpora, SignatureFile, Signer
from lehr.data.dedup.fuzzy import Apply
from lehr.data.joins import Joins, Keyed, Pairs
from lehr.data.joins.duck import DuckDBJoins

PACK = Path(__file__).resolve().parents[3] / "recipes/data"


class NumPyJoins:
    """Sorting and dictionaries instead of DuckDB."""

    def copies(self, rows: Iterable[Keyed]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        batches = list(rows)
        if not batches:
            return
        keys, numbers = (np.concatenate([getattr(b, name) for b in batches]) for name in ("keys", "numbers"))
        _, group = np.unique(keys, axis=0, return_inverse=True)
        lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, group, numbers)
        copy = (numbers > lowest[group]) & (numbers >= 0)
        order = np.argsort(numbers[copy])
        yield numbers[copy][order], lowest[group][copy][order]

    def buckets(self, rows: Iterable[Keyed]) -> NumPyBuckets:
        return NumPyBuckets(rows)


class NumPyBuckets:
    def __init__(self, rows: Iterable[Keyed]) -> None:
        self._buckets = defaultdict[int, list[tuple[float, int]]](list)
        self._judged: dict[tuple[int, int], tuple[float, float, float]] = {}
        for batch in rows:
            for key, number, priority in zip(
                batch.keys[:, 0].tolist(), batch.numbers.tolist(), batch.priorities.tolist(), strict=True
            ):
                self._buckets[key].append((-priority, number))
        for bucket in self._buckets.values():
            bucket.sort()
        self._prune()

    def _prune(self) -> None:
        self._buckets = {k: b for k, b in self._buckets.items() if len(b) > 1 and max(n for _, n in b) >= 0}

    def beyond(self, places: int) -> Iterator[np.ndarray]:
        yield np.array(sorted({n for b in self._buckets.values() for _, n in b[places:]}), np.int64)

    def pairs(self, places: int) -> Iterator[Pairs]:
        found = {
            (a[1], c[1], -a[0], -c[0], 0.0)
            for b in self._buckets.values()
            for i, a in enumerate(b[:places])
            for c in b[i + 1 :]
            if c[1] >= 0 and (a[1], c[1]) not in self._judged
        }
        yield from _pairs(sorted(found))

    def judge(self, pairs: Pairs) -> None:
        for first, other, a, b, value in zip(*(c.tolist() for c in vars(pairs).values()), strict=True):
            self._judged[first, other] = (a, b, value)

    def similar(self) -> Iterator[Pairs]:
        found = [(f, o, a, b, value) for (f, o), (a, b, value) in self._judged.items() if value > 0]
        yield from _pairs(sorted(found, key=lambda p: (-p[3], p[1], -p[2], p[0])))

    def remove(self, numbers: Iterable[np.ndarray]) -> None:
        gone = {n for batch in numbers for n in batch.tolist()}
        self._buckets = {k: [row for row in b if row[1] not in gone] for k, b in self._buckets.items()}
        self._judged = {pair: v for pair, v in self._judged.items() if not gone & set(pair)}
        self._prune()


def _pairs(rows: Sequence[tuple[float, ...]]) -> Iterator[Pairs]:
    for start in range(0, len(rows), 7):  # small batches, so that a result that depends on them is seen
        first, other, a, b, value = zip(*rows[start : start + 7], strict=True)
        numbers = np.array(first, np.int64), np.array(other, np.int64)
        yield Pairs(*numbers, np.array(a, np.float64), np.array(b, np.float64), np.array(value, np.float32))


class ByNumber:
    """The texts of a corpus, fetched by number; remembers how many were asked for at once."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.most = texts, 0

    def __call__(self, numbers: Sequence[int]) -> list[str]:
        assert list(numbers) == sorted(set(numbers)) and all(n >= 0 for n in numbers)
        self.most = max(self.most, len(numbers))
        return [self.texts[n] for n in numbers]


def pack(*names: str) -> list[str]:
    """The texts of some of the shipped sources."""
    return [json.loads(line)["text"] for name in names for line in gzip.open(PACK / f"{name}.jsonl.gz", "rt", encoding="utf-8")]


def signed(
    texts: Sequence[str],
    config: Deduplication,
    folder: Path,
    urls: Sequence[str] = (),
    scores: Sequence[Mapping[str, float]] = (),
    parts: int = 3,
) -> list[Path]:
    """Signature files of a corpus cut into parts."""
    signer, found = Signer(config), list[Path]()
    urls, scores = urls or [""] * len(texts), scores or [{}] * len(texts)
    for part, rows in enumerate(np.array_split(np.arange(len(texts)), parts)):
        found.append(folder / f"{part}.sig")
        with SignatureFile(found[-1], signer) as out:
            for few in np.array_split(rows, 2):
                out.add(signer.sign([texts[i] for i in few], [urls[i] for i in few], [scores[i] for i in few]))
    return found


def duplicates(
    corpora: Corpora, texts: Sequence[str], folder: Path, joins: Joins | None = None, apply: Apply = map
) -> np.ndarray:
    """By the in-memory engine, or by DuckDB where none is given."""
    if joins:
        return corpora.duplicates(joins, ByNumber(texts), apply)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    for file in scratch.iterdir():
        file.unlink()
    with DuckDBJoins(scratch, corpora.config.memory_mib) as engine:
        return corpora.duplicates(engine, ByNumber(texts), apply)


def plain_set(text: str, k: int = 5) -> set[str]:
    """The shingles of a text in a script with blanks, as strings."""
    words = text.lower().split()
    return {" ".join(words[i : i + k]) for i in range(max(1, len(words) - k + 1))} if words else set()


def plain_jaccard(a: str, b: str, k: int = 5) -> float:
    one, two = plain_set(a, k), plain_set(b, k)
    return len(one & two) / len(one | two) if one and two else 0.0


def edited(text: str, similarity: float, seed: int, k: int = 5) -> str:
    """The text with single words replaced until its Jaccard similarity with the original is just above `similarity`."""
    random = np.random.default_rng(seed)
    words = text.split()
    for number, place in enumerate(random.permutation(len(words)).tolist()):
        old, words[place] = words[place], f"changed{seed}x{number}"
        if plain_jaccard(text, " ".join(words), k) < similarity:
            words[place] = old
            break
    return " ".join(words)
