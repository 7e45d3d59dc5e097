"""Shingles against plain Python, MinHash against its theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.data.dedup import shingles as module
from lehr.data.dedup.minhash import band_keys, bands_for, candidate_share, fewest_equal, signatures, sketches
from lehr.data.dedup.shingles import jaccard, shingle_sets, words
from tests.data.dedup.given import plain_jaccard, plain_set


def _strings(text: str, k: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + k]) for i in range(max(1, len(found) - k + 1))} if found else set()


@pytest.mark.long
@given(st.lists(st.text(alphabet="aBcé \n\t\u00a0\u2003\x1c日本ไ.,x", max_size=60), max_size=6), st.integers(1, 6))
def test_hashes_are_as_different_as_the_shingles_of_words(texts: list[str], k: int) -> None:
    hashed, plain = shingle_sets(texts, k), [_strings(text, k) for text in texts]
    assert [len(h) for h in hashed] == [len(p) for p in plain]
    assert len(set().union(*(h.tolist() for h in hashed))) == len(set().union(*plain))
    for i, one in enumerate(plain):
        for j, other in enumerate(plain):
            union = one | other
            assert jaccard(hashed[i], hashed[j]) == (len(one & other) / len(union) if one and other else 0)


def test_words_longer_than_a_machine_word_differ_in_any_byte() -> None:
    base = "x" * 150
    texts = [base[:n] for n in range(1, 150)] + [f"{base[:n]}y{base[n + 1 :]}" for n in range(150)]
    found = shingle_sets(texts, 3)
    assert len({tuple(one.tolist()) for one in found}) == len(texts)


def test_a_text_longer_than_a_piece_has_the_same_shingles(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"word{i % 700}{'日本' * (i % 5 == 0)}" for i in range(3000))
    [whole] = shingle_sets([text], 5)
    monkeypatch.setattr(module, "_PIECE", 500)
    parts = shingle_sets(["before", text, "after it"], 5)
    assert parts[1].tolist() == whole.tolist()
    assert len(whole) == len(_strings(text, 5))


def test_scripts_without_blanks_are_read_by_characters() -> None:
    assert words("東京タワーへ行く。 Tokyo Tower") == [*"東京タワ", "ー", "へ", "行", "く", "。", "tokyo", "tower"]
    assert words("ไป") == ["ไ", "ป"]
    assert words("서울에 갑니다") == ["서울에", "갑니다"]  # Korean has blanks
    one, other = shingle_sets(
        ["今日はとても良い天気ですね。散歩に行きましょう。", "今日はとても良い天気ですね。家に帰りましょう。"], 3
    )
    assert 0.3 < jaccard(one, other) < 0.9


def test_the_estimate_has_the_mean_and_the_spread_of_independent_permutations() -> None:
    """Sets of numbered words that share a known part. The standard deviation of a mean of P independent permutations is
    sqrt(J (1 - J) / P); of 300 pairs, their mean lies within 4 standard errors, their spread within a fourth (5 standard
    errors)."""
    permutations, pairs = 128, 300
    for shared, own in ((400, 50), (300, 150), (60, 15), (100, 450)):
        texts = list[str]()
        for pair in range(pairs):
            common = [f"{pair}c{i}" for i in range(shared)]
            texts += [" ".join(common + [f"{pair}{side}{i}" for i in range(own)]) for side in "ab"]
        found, sizes = signatures(texts, 1, permutations)
        assert set(sizes.tolist()) == {shared + own}
        true = shared / (shared + 2 * own)
        estimates = (found[::2] == found[1::2]).mean(1)
        deviation = math.sqrt(true * (1 - true) / permutations)
        assert abs(estimates.mean() - true) < 4 * deviation / math.sqrt(pairs)
        assert 0.75 < estimates.std() / deviation < 1.25
        bands, rows = 16, 4
        keys = band_keys(found, bands, rows)
        share = (keys[::2] == keys[1::2]).any(1).mean()
        expected = candidate_share(true, bands, rows)
        assert abs(share - expected) < 4 * math.sqrt(max(expected * (1 - expected), 1e-3) / pairs)


def test_bands_are_the_ones_with_the_most_rows_that_have_the_recall() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.95):
        bands, rows = bands_for(threshold, 128, 0.99)
        assert bands * rows <= 128
        assert 1 - (1 - threshold**rows) ** bands >= 0.99 > 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1))
    assert bands_for(0.8, 128, 0.99) == (21, 6)


def test_a_true_pair_is_passed_over_once_in_a_million() -> None:
    fewest, equal = fewest_equal(0.8, 128), 0.8 + 0.2 / 256
    below = sum(math.comb(128, c) * equal**c * (1 - equal) ** (128 - c) for c in range(fewest))
    assert below <= 1e-6 < below + math.comb(128, fewest) * equal**fewest * (1 - equal) ** (128 - fewest)
    assert fewest_equal(1.0, 128) == 128
    found, _ = signatures(["a b c d e f g", "h i j k l m n o"], 1, 128)
    assert (sketches(found)[0] == sketches(found)[1]).mean() < 0.05


def test_signatures_do_not_depend_on_the_batch() -> None:
    texts = ["one two three four five six", "", "a", *(" ".join(f"w{i}" for i in range(n)) for n in (4, 5, 6, 900, 5000))]
    found, sizes = signatures(texts, 5, 64)
    for number, text in enumerate(texts):
        alone, size = signatures([text], 5, 64)
        assert alone[0].tolist() == found[number].tolist() and size[0] == sizes[number]
    assert found.dtype == np.uint32 and sizes.tolist() == [2, 0, 1, 1, 1, 2, 896, 4996]
    assert plain_jaccard(texts[0], texts[0]) == 1 and len(plain_set(texts[6])) == 896
