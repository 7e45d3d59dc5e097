"""Scores against numbers worked out by hand."""

from __future__ import annotations

import json
import math
import random
import re

import pytest

from lehr.artifacts.artifact import ArtifactRef
from lehr.data.synthetic.conversations import Message
from lehr.evals.estimate import mean, ratio
from lehr.evals.perplexity import bits_per_byte_by, windows
from lehr.evals.score import score
from lehr.evals.suites import examples
from lehr.evals.task import Choice, Example, Generation, Items, Pair, Record, Text
from lehr.runtime.errors import UserError
from lehr.runtime.metrics import find, metric
from tests.evals.fakes import PairTokenizer, TableModel

FROZEN = ArtifactRef(uri="runs/x/artifacts/soup", digest="d", kind="checkpoint", stage="soup")


def _values(records: list[Record]) -> dict[str, float]:
    return {r.metric: r.value for r in records}


def test_a_uniform_model_needs_log2_of_its_vocabulary_per_byte() -> None:
    model = TableModel(lambda ids, token: 1 / 261, max_length=16)
    [record] = score(model, "stage1", "prose", "dev", [Text("a" * 50), Text("grüße" * 9)], seed=1)
    assert record.metric == "bits_per_byte" and record.n == 2
    assert record.value == pytest.approx(math.log2(261)) and record.stderr == pytest.approx(0)


def test_bits_per_byte_weighs_documents_by_their_bytes() -> None:
    """2 bits on each of 30 bytes and 8 bits on each of 10: (60 + 80) / 40 = 3.5."""
    model = TableModel(lambda ids, token: 1 / 4 if token == 5 + ord("a") else 1 / 256)
    [record] = score(model, "stage1", "prose", "dev", [Text("a" * 30), Text("b" * 10)], seed=1)
    # Residuals 60 - 3.5 * 30 = -45 and 80 - 3.5 * 10 = 45: sqrt(2 * 45^2 * 2 / 1) / 40.
    assert record.value == pytest.approx(3.5) and record.stderr == pytest.approx(90 / 40)


def test_windows_predict_every_token_once() -> None:
    assert windows([7, 8, 9, 10, 11], first=0, width=2) == [([0], [7, 8]), ([8], [9, 10]), ([10], [11])]
    model = TableModel(lambda ids, token: 1 / 261, max_length=64)
    score(model, "stage1", "prose", "dev", [Text("abcdef")], seed=1, window_tokens=4)
    assert model.requests == [([0], [102, 103, 104, 105]), ([105], [106, 107])]


def test_the_standard_errors_match_the_spread_of_repeated_samples() -> None:
    """Draw 400 samples of 200 documents: their spread is what each one's standard error promises."""
    draw = random.Random(0)

    def sample() -> tuple[list[float], list[float]]:
        sizes = [draw.uniform(50, 500) for _ in range(200)]
        return [s * draw.gauss(2.0, 0.5) for s in sizes], sizes

    estimates = [ratio(*sample()) for _ in range(400)]
    centre = sum(e.value for e in estimates) / 400
    spread = math.sqrt(sum((e.value - centre) ** 2 for e in estimates) / 399)
    promised = sum(e.stderr for e in estimates) / 400
    assert promised == pytest.approx(spread, rel=0.1)
    assert mean([1.0] * 30 + [0.0] * 70).stderr == pytest.approx(math.sqrt(0.3 * 0.7 / 99))
    assert mean([1.0]).stderr is None


def test_chunks_of_one_document_are_not_so_many_examples() -> None:
    """20 documents of 8 chunks each, whose chunks share their document's difficulty: the clustered standard error is what
    repeated samples spread by, the other one less than half of it."""
    draw = random.Random(0)
    families = [i // 8 for i in range(160)]

    def sample() -> tuple[list[float], list[float]]:
        hard = [draw.gauss(2.0, 0.5) for _ in range(20)]
        sizes = [draw.uniform(50, 500) for _ in families]
        return [s * (hard[f] + draw.gauss(0, 0.2)) for s, f in zip(sizes, families, strict=True)], sizes

    samples = [sample() for _ in range(400)]
    estimates = [ratio(*pair, families) for pair in samples]
    centre = sum(e.value for e in estimates) / 400
    spread = math.sqrt(sum((e.value - centre) ** 2 for e in estimates) / 399)
    assert sum(e.stderr for e in estimates) / 400 == pytest.approx(spread, rel=0.1)
    assert sum(ratio(*pair).stderr for pair in samples) / 400 < 0.5 * spread
    # By hand: means of 1, 1, 0, 0 in two clusters; residuals 1 and -1; sqrt(2 * 2 / 1) / 4.
    assert mean([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]) == (0.5, 0.5, 4, 2)
    assert mean([1.0, 0.0], ["a", "a"]) == (0.5, None, 2, 1)  # a single cluster defines no error


def test_texts_of_one_document_and_pairs_of_one_prompt_are_taken_together() -> None:
    model = TableModel(lambda ids, token: 1 / 4 if token == 5 + ord("a") else 1 / 256)
    texts = [Text("a" * 30, "x"), Text("a" * 10, "x"), Text("b" * 40, "y")]
    [record] = score(model, "stage1", "prose", "dev", texts, seed=1)
    # 5 bits a byte: residuals -120 (both of x) and 120.
    assert record.n == 3 and record.stderr == pytest.approx(math.sqrt(2 * 120**2 * 2) / 80)
    same, other = [Message("user", "one")], [Message("user", "two")]
    pairs = [Pair(same, "a", "b"), Pair(same, "a", "b"), Pair(other, "b", "a"), Pair(other, "b", "a")]
    found = {r.metric: r for r in score(model, "dpo", "preference", "dev", pairs, seed=1)}
    assert (found["accuracy"].value, found["accuracy"].stderr) == (0.5, 0.5)


def test_cloze_by_sum_prefers_short_choices_and_by_character_does_not() -> None:
    """Each `x` costs a factor 1/2, each `y` 1/4. Sums: " y" beats " xxxx"; per character it is the other way round."""
    cost = {"x": 0.5, "y": 0.25, " ": 0.5}
    model = TableModel(lambda ids, token: cost.get(chr(token - 5), 0.1))
    found = _values(score(model, "soup", "t", "dev", [Choice("Q:", [" xxxx", " y"], gold=0)], seed=1))
    assert found == {"acc": 0.0, "acc_per_char": 1.0}
    letters = [Choice("Q:", [" x", " y"], gold=0, per_character=False)] * 3 + [Choice("Q:", [" x", " y"], 1, False)]
    assert _values(score(model, "soup", "t", "dev", letters, seed=1)) == {"acc": 0.75}


def test_a_token_that_spans_the_boundary_is_scored_for_every_choice() -> None:
    model = TableModel(lambda ids, token: 0.5, tokenizer=PairTokenizer())
    score(model, "soup", "t", "dev", [Choice("Q:", [" A", "B"], gold=0)], seed=1)
    assert model.requests == [([0, 86], [261, 70]), ([0, 86], [63, 71])]  # "Q" | ": " "A" and "Q" | ":" "B"


def test_preference_compares_log_probabilities_per_token() -> None:
    """`bbbb` is less likely than `a` in sum and more likely per token; the end-of-turn token counts."""
    cost = {5 + ord("a"): 0.25, 5 + ord("b"): 0.5, 0: 0.5}
    model = TableModel(lambda ids, token: cost.get(token, 0.1))
    pair = Pair([Message("user", "hm")], chosen="bbbb", rejected="a")
    found = _values(score(model, "dpo", "preference", "dev", [pair], seed=1))
    assert found["accuracy"] == 1.0
    assert found["logprob_margin"] == pytest.approx(math.log(0.5) - (math.log(0.25) + math.log(0.5)) / 2)
    assert model.requests[0][1] == [5 + ord("b")] * 4 + [0]


def _calculator(prompt: str, temperature: float) -> str:
    """Adds and subtracts what `a + b` or `a - b` it can read; chats when warm, and forgets to stop at multiples of 10."""
    match = re.search(r"(\d+) ([+-]) (\d+)", prompt)
    if match is None:
        return " I do not know\n"
    value = int(match[1]) + int(match[3]) * (1 if match[2] == "+" else -1)
    if "\nAnswer:" in prompt:
        return f" so {value}\nQuestion: 7"
    return ("Sure! " if temperature else "") + f"The answer is {value}." + ("" if value % 10 == 0 else "$")


def test_plain_answers_end_at_the_line_and_are_read_by_their_last_integer() -> None:
    found = examples("arithmetic", "dev", 200, seed=3)
    readable = sum(isinstance(e, Generation) and bool(re.search(r"\d [+-] \d", e.prompt)) for e in found) / len(found)
    model = TableModel(lambda ids, token: 0.5, _calculator)
    [record] = score(model, "soup", "arithmetic", "dev", found, seed=3)
    assert record.metric == "exact_match" and record.value == pytest.approx(readable) and 0.2 < readable < 0.6
    assert record.n == 200 and record.stderr == pytest.approx(math.sqrt(readable * (1 - readable) / 199))


def test_chat_answers_must_end_and_sampled_ones_are_averaged_by_prompt() -> None:
    found = examples("chat_math", "dev", 150, seed=3)
    model = TableModel(lambda ids, token: 0.5, _calculator)
    records = {r.metric: r for r in score(model, "rlvr", "chat_math", "dev", found, seed=3)}
    assert set(records) == {"asked_format", "exact_match", "strict", "sampled_accuracy", "sampled_exact_match"}
    assert records["exact_match"].value == records["strict"].value == records["sampled_exact_match"].value > 0.1
    assert records["sampled_accuracy"].value == 0.0, "warm answers begin with chatter"
    assert all(r.n == 150 for r in records.values())


def test_held_out_opens_only_for_a_frozen_model() -> None:
    model = TableModel(lambda ids, token: 0.5)
    with pytest.raises(UserError, match="can only be scored with a finished model"):
        score(model, "soup", "prose", "held_out", [Text("a")], seed=1)
    [record] = score(model, "soup", "prose", "held_out", [Text("a")], seed=1, frozen=FROZEN)
    assert record.split == "held_out"
    with pytest.raises(UserError, match="no dev examples"):
        score(model, "soup", "prose", "dev", [], seed=1)


def test_a_score_is_the_sum_of_what_its_examples_gave() -> None:
    """For every kind of example: from the items alone the same value, error, and number of clusters."""
    model = TableModel(lambda ids, token: 1 / 4 if token == 5 + ord("a") else 1 / 256)
    chat = [Message("user", "x")]
    kinds: list[list[Example]] = [
        [Text("a" * 30, "one"), Text("b" * 10, "one"), Text("ab", "two")],
        [Choice("", ["a", "b"], 0), Choice("", ["a", "b"], 1)],
        [Pair(chat, "a", "b"), Pair(chat, "b", "a"), Pair([Message("user", "y")], "a", "b")],
        [Generation("x", [], {"exact_match": ("last_integer", {"answer": 1})}, {}) for _ in range(2)],
    ]
    for found in kinds:
        for record in score(model, "stage1", "t", "dev", found, seed=1):
            items = record.items
            assert items is not None and len(items.values) == record.n == len(found) and "items" not in record.model_dump()
            again = ratio(items.values, items.weights or [1.0] * record.n, items.clusters)
            assert (again.value, again.stderr, again.clusters) == (record.value, record.stderr, record.clusters)
    items = score(model, "stage1", "t", "dev", kinds[0], seed=1)[0].items
    assert items is not None and items == Items(items.values, [30, 10, 2], [0, 0, 1])
    assert items.values == pytest.approx([60, 80, 10])  # 2 bits for an a, 8 for a b


def test_records_are_json() -> None:
    model = TableModel(lambda ids, token: 0.5)
    records = score(model, "soup", "arithmetic_cf", "dev", examples("arithmetic_cf", "dev", 5, seed=1), seed=1)
    rows = [json.loads(json.dumps(r.model_dump(), allow_nan=False)) for r in records]
    assert list(rows[0]) == ["stage", "task", "split", "metric", "value", "stderr", "n", "clusters", "seed", "contamination"]


def test_bits_per_byte_by_group_are_of_its_texts_alone() -> None:
    texts, bits = ["ab", "c", "défg"], [4.0, 3.0, 10.0]
    found = bits_per_byte_by(["x", "y", "x"], texts, bits)
    assert found == {"bits_per_byte": 17 / 8, "bits_per_byte@x": 14 / 7, "bits_per_byte@y": 3.0}
    assert bits_per_byte_by(["x"] * 3, texts, bits) == {"bits_per_byte": 17 / 8}  # one group is all of them
    assert metric("dev_bits_per_byte@x").title == "dev bits per byte, x" and find("nothing@x") is None
