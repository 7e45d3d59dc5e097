"""Gopher's rules: each at its threshold, counted by hand, and the repetitions against a plain count."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.config.filters.quality import GopherQualityFilter, GopherRepetitionFilter
from lehr.data.document import Document
from lehr.data.filters import filters
from lehr.data.ngrams import duplicated, repeated
from lehr.data.verdict import Drop, Keep
from tests.data.paragraphs import TEXTS

SENTENCE = "the men that had to work in the harbour of this town were tired and cold for a week with rain"
WORDS = SENTENCE.split()
OFF = dict.fromkeys(
    ("min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "max_symbols", "max_bullet_lines",
     "max_ellipsis_lines", "min_alphabetic_words", "min_stop_words")
)  # fmt: skip


def _quality(text: str, language: str = "en", **thresholds: Any) -> tuple[str | None, dict[str, float]]:
    judge = filters({"gopher_quality": GopherQualityFilter(text_types=[], **{**OFF, **thresholds})})
    return _said(judge(Document("d", "s", text, language=language)))


def _repetition(text: str) -> tuple[str | None, dict[str, float]]:
    return _said(filters({"gopher_repetition": GopherRepetitionFilter()})(Document("d", "s", text)))


def _said(verdict: Keep | Drop) -> tuple[str | None, dict[str, float]]:
    return verdict.reason if isinstance(verdict, Drop) else None, dict(verdict.scores)


def _of(count: int) -> str:
    return " ".join(itertools.islice(itertools.cycle(WORDS), count))


@pytest.mark.parametrize(
    ("key", "value", "kept", "dropped", "reason"),
    [
        ("min_words", 50, _of(50), _of(49) + " ... ---", "too few words"),  # what has no letters or digits is no word
        ("max_words", 60, _of(60), _of(61), "too many words"),
        ("min_mean_word_length", 3.0, "abc abcd ab", "abc abcd a", "mean word length"),
        ("max_mean_word_length", 4.0, "abc abcd abcde", "abc abcd abcdef", "mean word length"),
        ("max_symbols", 0.1, _of(20) + "# #", _of(19) + " # ##", "too many symbols"),
        ("max_symbols", 0.1, _of(20) + "... …", _of(20) + "...……", "too many symbols"),
        ("max_bullet_lines", 0.9, "- a\n" * 8 + "• a\nb", "- a\n" * 9 + "  • a", "too many bullet points"),
        ("max_ellipsis_lines", 0.3, "a...\n" * 3 + "b\n" * 7, "a…  \n" * 4 + "b\n" * 6, "too many lines end in an ellipsis"),
        ("min_alphabetic_words", 0.8, "a b c 2d 5", "a b c 4 5", "too few alphabetic words"),
        ("min_stop_words", 2, "Ships, the and.", "Ships the the", "too few stop words"),
    ],
)
def test_each_quality_rule_at_its_threshold(key: str, value: float, kept: str, dropped: str, reason: str) -> None:
    assert _quality(kept, **{key: value})[0] is None
    assert _quality(dropped, **{key: value})[0] == reason
    assert _quality(dropped)[0] is None  # null switches it off


def test_every_score_is_there_whatever_the_verdict() -> None:
    reason, scores = _quality(_of(10) + "\n- one", min_words=50, min_stop_words=2)
    assert reason == "too few words"
    assert scores == {
        "gopher_quality.words": 11, "gopher_quality.mean_word_length": pytest.approx(sum(map(len, [*WORDS[:10], "one"])) / 11),
        "gopher_quality.symbols": 0, "gopher_quality.bullet_lines": 0.5, "gopher_quality.ellipsis_lines": 0,
        "gopher_quality.alphabetic_words": pytest.approx(11 / 12), "gopher_quality.stop_words": 4,
    }  # fmt: skip


@pytest.mark.parametrize("language", ["ja", "zh", "ko"])
def test_text_without_blanks_has_words(language: str) -> None:
    """By blanks alone the Japanese and the Chinese have a few words, and Korean words are shorter than three letters."""
    text = TEXTS[language]
    reason, scores = _quality(
        text, language, min_words=25, min_mean_word_length=3.0, max_mean_word_length=10.0, min_stop_words=2
    )
    assert reason is None, scores
    assert ("gopher_quality.mean_word_length" in scores) == (language == "ko")
    assert _repetition(text)[0] is None


def test_lines_and_paragraphs() -> None:
    text = "one line\n" * 3 + "another\n\nsome paragraph\n\nsome paragraph"
    scores = _repetition(text)[1]
    assert scores["gopher_repetition.duplicate_lines"] == 3 / 6
    assert scores["gopher_repetition.duplicate_line_characters"] == pytest.approx((8 + 8 + 14) / len(text))
    assert scores["gopher_repetition.duplicate_paragraphs"] == 1 / 3
    assert scores["gopher_repetition.duplicate_paragraph_characters"] == pytest.approx(14 / len(text))


def test_sequences_by_hand() -> None:
    text = "a b c d e f . a b c d e g"
    scores = _repetition(text)[1]
    assert scores["gopher_repetition.top_2grams"] == pytest.approx(2 * len("a b") / len(text))
    assert scores["gopher_repetition.top_4grams"] == pytest.approx(2 * len("a b c d") / len(text))
    assert scores["gopher_repetition.duplicate_5grams"] == pytest.approx(5 / len(text))
    assert scores["gopher_repetition.duplicate_6grams"] == 0


def _plain(words: list[int], n: int) -> tuple[int, int, int]:
    """Top sequence's place and count, and duplicated words, as Gopher's table says it, without a thought for speed."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    times = max(map(grams.count, grams), default=1)
    top = next((i for i, gram in enumerate(grams) if grams.count(gram) == times), 0)
    seen, total, place = set[tuple[int, ...]](), 0, 0
    while place < len(grams):
        again = grams[place] in seen
        seen.add(grams[place])
        total += n * again
        place += n if again else 1
    return top, times, total


@given(st.lists(st.integers(0, 3), max_size=60), st.sampled_from([0, 1 << 22]))
def test_sequences_are_those_of_a_plain_count(words: list[int], offset: int) -> None:
    """With `offset` the numbers are too large to be packed with their places."""
    ids = np.array(words, np.int64) + offset
    for found in repeated(ids, 10):
        top, times, total = _plain(words, found.n)
        assert (found.top, found.times) == (top, times)
        assert duplicated(found, np.arange(len(words) + 1)) == total
