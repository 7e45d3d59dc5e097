"""The linear classifier: its hashes are fastText's, its loss and gradient NumPy's by hand, its minimum a minimum."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lehr.config.text_models import ClassifierModel
from lehr.data.hashed import WordHashes, ngrams, words_of
from lehr.data.linear import DESCRIBED, WEIGHTS, LinearClassifier
from lehr.data.linear_training import Texts, auc, fit, kept_at, loss_and_gradient, measured
from lehr.runtime.errors import UserError

SMALL = ClassifierModel(kind="classifier", positive=["a"], negative=["b"], buckets=16, ngrams=2)


def test_hashes_are_fnv_1a_with_signed_bytes_and_words_are_fasttexts() -> None:
    assert WordHashes().of(["", "a", "foobar"]).tolist() == [
        np.int32(np.uint32(h).view(np.int32))
        for h in (0x811C9DC5, 0xE40C292C, 0xBF9CF968)  # the published test values
    ]
    high = ((0x811C9DC5 ^ 0xFFFFFFC3) * 16777619) & 0xFFFFFFFF  # é: C3 A9, each byte with its sign
    high = ((high ^ 0xFFFFFFA9) * 16777619) & 0xFFFFFFFF
    assert WordHashes().of(["é"])[0] & 0xFFFFFFFF == high
    assert words_of("a\0b\xa0c d\n") == ["a", "b\xa0c", "d"]


def test_ngrams_are_those_of_the_definition() -> None:
    hashes = WordHashes().of(["the", "quick", "brown", "fox"])
    unsigned = [int(h) % (1 << 64) for h in hashes]
    pairs = [(a * 116049371 + b) % (1 << 64) % 1000 for a, b in pairwise(unsigned)]
    assert ngrams(hashes, range(1, 3), 1000).tolist() == [*(h % 1000 for h in unsigned), *pairs]
    assert ngrams(hashes[:1], range(2, 4), 1000).tolist() == [] and ngrams(hashes[:0], range(1, 3), 1000).tolist() == []


def texts() -> Texts:
    return Texts.of([(np.array([0, 0, 1]), True), (np.array([2]), False), (np.array([1, 3]), False), (np.zeros(0), True)])


def test_loss_is_that_written_out_and_the_gradient_is_its_difference_quotient() -> None:
    rng = np.random.default_rng(0)
    parameters, data = rng.normal(size=5) / 100, texts()
    w, b = parameters[:4] * 100, parameters[4]
    z = [(2 * w[0] + w[1]) / 3 + b, w[2] + b, (w[1] + w[3]) / 2 + b]
    losses = [math.log1p(math.exp(-z[0])), math.log1p(math.exp(z[1])), math.log1p(math.exp(z[2]))]
    by_hand = 0.5 * losses[0] + 0.25 * (losses[1] + losses[2]) + 0.3 / 3 / 2 * float((w**2).sum()) / 100**2
    loss, gradient = loss_and_gradient(parameters, data, 0.3)
    assert loss == pytest.approx(by_hand, rel=1e-12)
    for place in range(5):
        step = np.zeros(5)
        step[place] = 1e-6
        around = [loss_and_gradient(parameters + sign * step, data, 0.3)[0] for sign in (1, -1)]
        assert gradient[place] == pytest.approx((around[0] - around[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_the_fit_is_where_the_gradient_vanishes_whatever_the_order(tmp_path: Path) -> None:
    wide = SMALL.model_copy(update={"buckets": 1 << 12})
    model = LinearClassifier(np.zeros(1 << 12, np.float32), 0.0, 2, True)
    said = [("good fine text", True), ("fine Good words", True), ("bad poor text", False), ("poor bad words here", False)]
    features = [(model.features(text), label) for text, label in said]
    found = fit(Texts.of(features), wide)
    parameters = np.append(found.weights.astype(np.float64) / 100, found.bias)
    assert np.abs(loss_and_gradient(parameters, Texts.of(features), wide.l2)[1]).max() < 1e-5
    again = fit(Texts.of(features[::-1]), wide)
    assert np.allclose(again.weights, found.weights, rtol=1e-3, atol=1e-3)
    assert found("GOOD fine text") > 0.9 > 0.1 > found("bad poor text")
    assert found("") == pytest.approx(1 / (1 + math.exp(-found.bias)))
    found.save(tmp_path)
    first = (tmp_path / WEIGHTS).read_bytes()
    fit(Texts.of(features), wide).save(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == first
    assert LinearClassifier.load(tmp_path)("good fine text") == found("good fine text")
    losses = [-math.log(found(text) if label else 1 - found(text)) for text, label in said]
    expected = {"accuracy": 1.0, "auc": 1.0, "log_loss": pytest.approx(float(np.mean(losses)), rel=1e-6)}
    assert measured(found, Texts.of(features)) == expected
    with pytest.raises(UserError, match="no negative text"):
        fit(Texts.of(features[:2]), wide)


def test_auc_counts_pairs_and_ties_half() -> None:
    assert auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1, 0, 0])) == pytest.approx(3.5 / 4)
    assert math.isnan(auc(np.array([1.0]), np.array([1.0])))
    assert kept_at(np.linspace(0, 1, 101), [0.07]) == {"0.07": pytest.approx(0.93)}


@pytest.mark.parametrize("damage", ["missing", "cut", "wrong", "described"])
def test_a_damaged_model_is_one_line(tmp_path: Path, damage: str) -> None:
    LinearClassifier(np.zeros(16, np.float32), 0.0, 2, True).save(tmp_path)
    file = tmp_path / WEIGHTS
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "wrong":
        LinearClassifier(np.full(16, np.nan, np.float32), 0.0, 2, True).save(tmp_path)
    else:
        (tmp_path / DESCRIBED).write_text('{"bias": "high"}', encoding="utf-8")
    with pytest.raises(UserError) as error:
        LinearClassifier.load(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
