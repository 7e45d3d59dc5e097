"""N-grams and a compressor as baselines: exact, on what the model read, scored as the model is."""

from __future__ import annotations

import gzip
import json
import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lehr.config.evaluation import Baselines, TaskPlan
from lehr.config.mix import Mix
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.evals.baselines import Compared, Texts, added_bits, baselines, distinct_windows
from lehr.evals.compressor import compressed_sizes
from lehr.evals.ngrams import NgramCounts
from lehr.evals.suites import NEEDS_ABOUT, NEEDS_PAIRS, OF_TEXT, TASKS
from lehr.evals.task import Text
from lehr.stages.baselines import TrainingPhase
from tests.evals.fakes import ByteTokenizer
from tests.evals.given import examples
from tests.train.corpus import corpus

VOCABULARY = 7
BEGIN = -1
Grams = dict[tuple[int, ...], set[int]]


class Slow:
    """The same, a probability at a time, as the definition has it."""

    def __init__(self, windows: Sequence[Sequence[int]], vocabulary: int, order: int) -> None:
        self.vocabulary, self.order = vocabulary, order
        raw, left = Counter[tuple[int, ...]](), defaultdict[tuple[int, ...], set[int]](set)
        for window in windows:
            for end in range(1, len(window)):
                for k in range(1, min(order, end + 1) + 1):
                    gram = tuple(window[end - k + 1 : end + 1])
                    raw[gram] += 1
                    left[gram].add(window[end - k] if end - k >= 0 else BEGIN)
        self.counts = {gram: raw[gram] if len(gram) == order else len(left[gram]) for gram in raw}
        sizes = {k: [c for gram, c in self.counts.items() if len(gram) == k] for k in range(1, order + 1)}
        self.discounts = {k: self._discounts(counts) for k, counts in sizes.items()}

    @staticmethod
    def _discounts(counts: list[int]) -> tuple[float, float, float]:
        n = [sum(c == size for c in counts) for size in range(5)]
        if 0 in n[1:]:
            return 0.5, 1.0, 1.5
        y = n[1] / (n[1] + 2 * n[2])
        found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
        return found if min(found) >= 0 else (0.5, 1.0, 1.5)  # type: ignore[return-value]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        context = context[max(0, len(context) - self.order + 1) :]
        k = len(context) + 1
        shorter = self.probability(context[1:], token) if context else 1 / self.vocabulary
        following = [c for gram, c in self.counts.items() if len(gram) == k and gram[:-1] == context]
        if not following:
            return shorter
        taken = self.discounts[k]
        own = self.counts.get((*context, token), 0)
        reserved = sum(taken[min(c, 3) - 1] for c in following)
        kept = own - taken[min(own, 3) - 1] if own else 0.0
        return (kept + reserved * shorter) / sum(following)


@pytest.mark.parametrize(("order", "length", "skew"), [(2, 9, 2.0), (3, 9, 2.0), (4, 30, 3.0), (3, 2, 1.0), (5, 4, 2.0)])
def test_probabilities_are_those_of_a_slow_computation_and_sum_to_one(order: int, length: int, skew: float) -> None:
    rng = np.random.default_rng(order * length)
    windows = [(VOCABULARY * rng.random(length) ** skew).astype(int) for _ in range(60)]
    model = NgramCounts([w.astype(np.uint16) for w in windows], VOCABULARY, order + 1).model(order, ByteTokenizer())
    slow = Slow([w.tolist() for w in windows], VOCABULARY, order)
    for _ in range(40):
        context = rng.integers(0, VOCABULARY, rng.integers(1, 6)).tolist()
        scored = model.logprobs([(context, [token]) for token in range(VOCABULARY)])
        fast = [math.exp(logprob) for logprob, _, _ in scored]
        assert math.fsum(fast) == pytest.approx(1, abs=1e-12)
        assert fast == pytest.approx([slow.probability(tuple(context), token) for token in range(VOCABULARY)], rel=1e-12)


def test_by_hand() -> None:
    """Windows 0 1 2 and 0 1 1. 1 comes after two different tokens and 2 after one; with the discounts 1/2 and 1 the uniform
    third of each gets (1/2 + 1)/3 of the whole: p(0), p(1), p(2) = 1/6, 1/2, 1/3. After 1 come 2 and 1, once each."""
    model = NgramCounts([np.array([0, 1, 2]), np.array([0, 1, 1])], 3, 2).model(2, ByteTokenizer())
    ((two, size, _), (zero, *_), (both, *_)) = model.logprobs([([1], [2]), ([0, 1], [0]), ([0], [1, 2])])
    assert size == 1 and math.exp(two) == pytest.approx(1 / 4 + 1 / 2 * 1 / 3)
    assert math.exp(zero) == pytest.approx(1 / 2 * 1 / 6)
    assert math.exp(both) == pytest.approx((1 / 2 + 1 / 2 * 1 / 2) * 5 / 12)  # p(1 | 0) p(2 | 1)


STRETCH = TrainingPhase(
    mix=Mix(weights={"a": 1.0}), tokens=1536, batch_size=4, sequence_length=16, batch_ramp=None, data_seed=5,
)  # fmt: skip


def test_windows_are_those_that_the_stage_reads(tmp_path: Path) -> None:
    from lehr.config.optim import Optim
    from lehr.config.schedule import BatchRamp, ConstantSchedule
    from lehr.train.next_token import TrainingPhase as Trained
    from lehr.train.next_token import make_loader

    folder = corpus(tmp_path)
    ramped = STRETCH.model_copy(update={"batch_ramp": BatchRamp(start=1, double_every_tokens=64), "data_seed": 6})
    read: list[tuple[int, ...]] = []
    for s in (STRETCH, ramped):
        schedule = ConstantSchedule(kind="constant")
        trained = Trained(
            s.mix, s.tokens, s.batch_size, s.sequence_length, Optim(lr=1e-3), schedule, 9, s.data_seed, s.batch_ramp
        )
        loader = make_loader(folder, folder, trained)
        for step in range(trained.steps):
            batch = loader.rows(*trained.batches.at(step), Ranks().rank, Ranks().world)
            rows = zip(batch.tokens_BT.tolist(), batch.labels_BT[:, -1].tolist(), strict=True)
            read += [(*tokens, label) for tokens, label in rows]
    found, there = distinct_windows([s.loader(folder, folder) for s in (STRETCH, ramped)], 10**9)
    distinct = list(dict.fromkeys(tuple(window.tolist()) for window in found))  # two of them are of one text
    assert distinct == list(dict.fromkeys(read)) and there == 16 * len(found)
    assert len(found) < len(read)  # some windows are read twice, and count once
    few, all_there = distinct_windows([STRETCH.loader(folder, folder)], 160)
    assert [w.tolist() for w in few] == [w.tolist() for w in found[:10]] and all_there > 160


TEXTS = ["sun moon star 12 rose at sun at", "rose rose 12 moon"]


def test_texts_are_scored_as_a_model_scores_them(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    for split in ("dev", "held_out"):
        rows = "".join(json.dumps({"id": str(i), "source": "a", "text": text}) + "\n" for i, text in enumerate(TEXTS))
        (tmp_path / f"{split}.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    plan = TaskPlan(task="prose", limit=5, splits=["held_out"])
    loader, kinds = STRETCH.loader(folder, folder), Baselines(orders=[3, 2], most_tokens=10**9)
    found = baselines([loader], Compared("stage1", [plan], True, 8, 3), kinds, folder, folder)
    windows, _ = distinct_windows([loader], 10**9)
    assert found.counted == {"tokens": 16 * len(windows), "distinct_tokens_read": 16 * len(windows)}
    named = {(r.split, r.metric): r for r in found.records}
    assert list(named) == [
        ("held_out", "bits_per_byte_3gram"), ("held_out", "bits_per_byte_2gram"), ("held_out", "bits_per_byte_xz"),
        ("dev", "dev_bits_per_byte_3gram"), ("dev", "dev_bits_per_byte_2gram"),
    ]  # fmt: skip
    tokenizer = Tokenizer.load(folder)
    slow, nats = Slow([w.tolist() for w in windows], tokenizer.vocab_size, 3), 0.0
    for text in TEXTS:
        before = [tokenizer.eos_id]
        for number, token in enumerate(tokenizer.encode(text)):
            context = before[-1:] if number % 8 == 0 else before[-(number % 8) - 1 :]  # of its own window of 8
            nats -= math.log(slow.probability(tuple(context), token))
            before.append(token)
    record = named["held_out", "bits_per_byte_3gram"]
    assert record.value == pytest.approx(nats / math.log(2) / sum(len(t) for t in TEXTS), rel=1e-9)
    assert (record.stage, record.task, record.n, record.seed) == ("stage1", "prose", 2, 3) and record.stderr > 0
    assert record.value == named["dev", "dev_bits_per_byte_3gram"].value  # the same texts
    assert 0 < named["held_out", "bits_per_byte_xz"].value < 8


def test_a_compressor_is_told_by_what_was_read() -> None:
    rng = np.random.default_rng(0)
    read, other = ("".join(map(chr, rng.integers(97, 123, 4000))) for _ in range(2))
    sets = [Texts("t", "dev", [Text(read[1000:2000])]), Texts("t", "dev", [Text(other[:1000]), Text(other[1000:2000])])]
    again, fresh = added_bits(read, sets)
    assert again.value < 0.15 and (again.n, fresh.n) == (1, 2)
    assert math.log2(26) - 0.05 < fresh.value < 5.2  # 26 letters at random have 4.7 bits each


def test_a_text_that_is_read_once_is_compressed_as_if_it_were_read_for_each() -> None:
    first, others = b"some words, and some words again. " * 3000, [b"", b"again, and again", bytes(range(256)) * 9]
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 17}]
    whole = [len(lzma.compress(first + other, lzma.FORMAT_RAW, filters=filters)) for other in (b"", *others)]
    assert compressed_sizes(first, others) == whole and whole[0] == whole[1] < whole[2] < whole[3]


def test_tasks_of_text_are_known(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"id": str(i), "source": "a", "text": f"{i} a few words " * 40}) + "\n" for i in range(5))
    (tmp_path / "held_out.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    tasks = [task for task in TASKS if task not in NEEDS_PAIRS | NEEDS_ABOUT]
    assert {t for t in tasks if isinstance(examples(t, "held_out", 2, 0, tmp_path)[0], Text)} == OF_TEXT
