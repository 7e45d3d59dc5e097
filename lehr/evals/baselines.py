"""Baselines of bits per byte: n-grams and a compressor on the windows that a model read, scored as the model is.

A window that was read again, in a later epoch or stage, counts once: that a text was repeated says nothing of the language,
and counts of nothing but repeats would leave nothing to estimate discounts from. What a rewind left out counts as read.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lehr.config.evaluation import Baselines, TaskPlan
from lehr.data.loader import Loader
from lehr.data.tokenizer import Tokenizer
from lehr.evals.corpus import prose_texts
from lehr.evals.estimate import Estimate
from lehr.evals.ngrams import NgramCounts, NgramModel
from lehr.evals.perplexity import bits_per_byte
from lehr.evals.score import families
from lehr.evals.scores import IN_LOOP_TEXTS
from lehr.evals.suites import examples
from lehr.evals.task import Record, Text
from lehr.metrics import COMPRESSOR, DEV, NGRAMS, require

_BLOCK = 4096  # windows that are located together
_LARGEST = 1536 << 20  # of xz's dictionary, in bytes
Scorer = Callable[[Sequence[Text]], Estimate]


@dataclass(frozen=True)
class Compared:
    """The model that baselines are made for: its name, its tasks, how its scores are made."""

    model: str
    tasks: Sequence[TaskPlan]
    in_loop: bool
    window_tokens: int
    seed: int


@dataclass(frozen=True)
class Found:
    """The scores, and how many tokens of distinct windows there were and were counted."""

    records: list[Record]
    counted: dict[str, int]


def baselines(
    loaders: Sequence[Loader], compared: Compared, kinds: Baselines, tokenizer_folder: Path, documents: Path
) -> Found:
    """Of the windows of `loaders`, which read shards of the tokenizer in that folder; the texts are of the prepared corpus in
    `documents`. Raises UserError where they are missing."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    windows, there = distinct_windows(loaders, kinds.most_tokens)
    scorers = _scorers(windows, compared, kinds, tokenizer)
    require(scorers)
    records = []
    for task, split, prefix, texts in _texts(compared, documents):
        for name, scorer in scorers.items():
            if not prefix or name != COMPRESSOR.name:  # a curve is held to n-grams alone
                value, stderr, n = scorer(texts)
                what = {"stage": compared.model, "task": task, "split": split, "metric": prefix + name}
                records.append(Record(**what, value=value, stderr=stderr, n=n, seed=compared.seed))
    return Found(records, {"tokens": sum(len(window) - 1 for window in windows), "distinct_tokens_read": there})


def _scorers(windows: Sequence[np.ndarray], compared: Compared, kinds: Baselines, tokenizer: Tokenizer) -> dict[str, Scorer]:
    """By the name of the metric."""
    counts = NgramCounts(windows, tokenizer.vocab_size, max(kinds.orders))
    scorers: dict[str, Scorer] = {}
    for order in kinds.orders:
        model = counts.model(order, tokenizer)
        scorers[NGRAMS[order].name] = partial(_ngram_bits, model, compared.window_tokens)
    if kinds.compressor:
        read = tokenizer.decode(np.concatenate([window[1:] for window in windows]).tolist()).encode()
        scorers[COMPRESSOR.name] = partial(_added_bits, read, compressed_bytes(read))
    return scorers


def _ngram_bits(model: NgramModel, width: int, texts: Sequence[Text]) -> Estimate:
    return bits_per_byte(model, [t.text for t in texts], width, families(texts))["bits_per_byte"]


def _added_bits(read: bytes, alone: int, texts: Sequence[Text]) -> Estimate:
    """Bits that the texts add to what was read, which has `alone` bytes when it is compressed without them, over their bytes.
    Each text is told by those before it too, so there is no standard error."""
    added = "".join(t.text for t in texts).encode()
    return Estimate(8 * (compressed_bytes(read + added) - alone) / len(added), 0.0, len(texts))


def compressed_bytes(data: bytes) -> int:
    """After LZMA2 as xz -6 does it, with a dictionary that holds everything and without a container's header."""
    dictionary = min(max(len(data), 1 << 16), _LARGEST)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}]
    return len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters))


def distinct_windows(loaders: Sequence[Loader], most_tokens: int) -> tuple[list[np.ndarray], int]:
    """The windows in the order in which they are first read, each a token longer than what is predicted of it, until there are
    `most_tokens` of those; and how many of those there are in all."""
    seen, kept, total = set[tuple[str, int, int]](), list[np.ndarray](), 0
    for loader in loaders:
        length = loader.plan.sequence_length
        for first in range(0, loader.plan.instances, _BLOCK):
            last = min(first + _BLOCK, loader.plan.instances)
            for part, window in loader.windows(np.arange(first, last)):
                key = part.shards.source, window * length, length
                if key not in seen:
                    seen.add(key)
                    if total + length <= most_tokens or not kept:
                        kept.append(part.shards.tokens[window * length : (window + 1) * length + 1])
                    total += length
    return kept, total


def _texts(compared: Compared, documents: Path) -> Iterator[tuple[str, str, str, list[Text]]]:
    """Task, split, what stands before a metric's name, and the texts: as the model is scored on them, and in the loop."""
    for plan in compared.tasks:
        for split in plan.splits:
            found = examples(plan.task, split, plan.limit, compared.seed, documents)
            yield plan.task, split, "", [t for t in found if isinstance(t, Text)]
    if compared.in_loop:
        yield "prose", "dev", DEV, [Text(*held) for held in prose_texts(documents, "dev", compared.seed, IN_LOOP_TEXTS)]
