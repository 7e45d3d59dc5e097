"""Baselines for bits per byte: n-grams and a compressor, fitted to the windows that a model read and scored like the model.

A window that was read again, in a later epoch or stage, counts once: repetition says nothing about the language, and with
counts made of repeats alone no discounts can be estimated. Windows that a rollback left out count as read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from lehr.config.evaluation import Baselines, TaskPlan
from lehr.data.loader import Loader
from lehr.data.tokenizer import Tokenizer
from lehr.evals.compressor import compressed_sizes
from lehr.evals.corpus import IN_LOOP_TEXTS, prose_texts
from lehr.evals.estimate import Estimate
from lehr.evals.held_out import unscored
from lehr.evals.ngrams import NgramCounts
from lehr.evals.perplexity import bits_per_byte
from lehr.evals.score import families
from lehr.evals.suites import examples
from lehr.evals.task import Record, Text
from lehr.runtime.metrics import COMPRESSOR, DEV, NGRAMS, require

_BLOCK = 4096  # windows located in one call


@dataclass(frozen=True)
class Compared:
    """The model to which baselines are compared: its name, its tasks, how its scores are made."""

    model: str
    tasks: Sequence[TaskPlan]
    in_loop: bool
    window_tokens: int
    seed: int


@dataclass(frozen=True)
class Texts:
    """The texts of one task and split. Those not `scored` are measured during training only, and shown with its curves."""

    task: str
    split: str
    texts: list[Text]
    scored: bool = True


@dataclass(frozen=True)
class Found:
    """The scores, and the number of tokens in distinct windows: those there are, and those counted."""

    records: list[Record]
    counted: dict[str, int]


def baselines(
    loaders: Sequence[Loader], compared: Compared, kinds: Baselines, tokenizer_folder: Path, documents: Path
) -> Found:
    """Baselines fitted to the windows of `loaders`, whose shards are of the tokenizer in `tokenizer_folder`; the texts come
    from the prepared corpus in `documents`. Raises UserError if they are missing."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    windows, there = distinct_windows(loaders, kinds.most_tokens)
    sets = list(_sets(compared, documents))
    found = _ngrams(windows, sets, compared, kinds.orders, tokenizer)
    if kinds.compressor:
        # What was predicted: a window's first token is context alone, as it is the last label of the window before.
        read = tokenizer.decode(np.concatenate([window[1:] for window in windows]).tolist())
        wanted = [texts for texts in sets if texts.scored]
        found += zip(wanted, repeat(COMPRESSOR.name), added_bits(read, wanted), strict=False)  # not strict: `repeat` has no end
    found.sort(key=lambda one: sets.index(one[0]))  # stable: by set, and within a set n-grams before the compressor
    records = [
        Record(
            stage=compared.model, task=texts.task, split=texts.split, metric=metric if texts.scored else f"{DEV}{metric}",
            seed=compared.seed, **e._asdict(),
        )
        for texts, metric, e in found
    ]  # fmt: skip
    require(record.metric for record in records)
    return Found(records, {"tokens": sum(len(window) - 1 for window in windows), "distinct_tokens_read": there})


def _ngrams(
    windows: Sequence[np.ndarray], sets: Sequence[Texts], compared: Compared, orders: Sequence[int], tokenizer: Tokenizer
) -> list[tuple[Texts, str, Estimate]]:
    """For each set of texts and order: the texts, the metric's name, the score."""
    counts = NgramCounts(windows, tokenizer.vocab_size, max(orders))
    models = {NGRAMS[order].name: counts.model(order, tokenizer) for order in orders}
    found = []
    for texts in sets:
        raw, grouped = [t.text for t in texts.texts], families(texts.texts)
        for name, model in models.items():
            scores = bits_per_byte(model, raw, compared.window_tokens, grouped)
            found.append((texts, name, scores["bits_per_byte"]))
    return found


def added_bits(read: str, sets: Sequence[Texts]) -> list[Estimate]:
    """For each set of texts the bits that it adds when compressed together with what was read, divided by its bytes. Each text
    is also predicted from the texts before it, so the texts are not independent and there is no standard error."""
    joined = ["".join(t.text for t in texts.texts).encode() for texts in sets]
    alone, *both = compressed_sizes(read.encode(), joined)
    bits = [8 * (size - alone) / len(added) for size, added in zip(both, joined, strict=True)]
    return [
        Estimate(value, None, len(texts.texts), len(set(families(texts.texts))))
        for value, texts in zip(bits, sets, strict=True)
    ]


def distinct_windows(loaders: Sequence[Loader], most_tokens: int) -> tuple[list[np.ndarray], int]:
    """The distinct windows in the order of first reading, up to `most_tokens` predicted tokens (each window has one token more
    than that); and the number of predicted tokens in all distinct windows."""
    seen, kept, total = set[tuple[str, int, int]](), list[np.ndarray](), 0
    for loader in loaders:
        length = loader.plan.sequence_length
        for first in range(0, loader.plan.instances, _BLOCK):
            last = min(first + _BLOCK, loader.plan.instances)
            for part, window in loader.windows(np.arange(first, last)):
                key = part.shards.source, window * length, length
                if key not in seen:
                    seen.add(key)
                    if total + length <= most_tokens or not kept:  # one at least: of none there is nothing to count
                        kept.append(part.shards.tokens[window * length : (window + 1) * length + 1])
                    total += length
    return kept, total


def _sets(compared: Compared, documents: Path) -> Iterator[Texts]:
    """The texts on which the model is scored, and those measured during its training."""
    for plan in compared.tasks:
        for split in plan.splits:
            found = unscored(examples(plan.task, split, plan.limit, compared.seed, documents), "baselines")
            yield Texts(plan.task, split, [t for t in found if isinstance(t, Text)])
    if compared.in_loop:
        held = prose_texts(documents, "dev", compared.seed, IN_LOOP_TEXTS)
        yield Texts("prose", "dev", [Text(*one) for one in held], scored=False)
