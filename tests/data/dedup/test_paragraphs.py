"""Repeated paragraphs, by a filter whose error is the stated one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lehr.config.deduplication import RepeatedParagraphs
from lehr.data.dedup import Paragraphs, paragraph_keys
from lehr.data.dedup.bloom import Bloom
from lehr.data.dedup.shingles import mixed


def test_the_rate_of_errors_is_the_stated_one_and_nothing_known_is_forgotten() -> None:
    expected, rate = 20_000, 0.01
    bloom = Bloom(expected, rate)
    keys = mixed(np.arange(1, 3 * expected + 1, dtype=np.uint64))
    taken = np.concatenate([bloom.add(part) for part in np.array_split(keys[:expected], 10)])
    assert taken.mean() < rate  # it was emptier than it is now
    assert bloom.add(keys[:expected]).all()
    measured = bloom.known(keys[expected:]).mean()
    deviation = (rate * (1 - rate) / (2 * expected)) ** 0.5
    assert abs(measured - rate) < 6 * deviation
    assert bloom.bits / expected < 9.6  # -ln p / (ln 2)^2 bits a key


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8))
def test_keys_in_batches_are_keys_one_by_one(batches: list[list[int]]) -> None:
    one, other = Bloom(12, 0.3), Bloom(12, 0.3)  # small: bits overlap
    for batch in batches:
        keys = mixed(np.array(batch, np.uint64))
        together = one.add(keys).tolist()
        assert together == [bool(other.add(keys[i : i + 1])[0]) for i in range(len(keys))]


def test_what_occurred_before_goes_and_its_first_occurrence_stays() -> None:
    paragraphs = Paragraphs(RepeatedParagraphs(expected=1000))
    first = "Title\n\nA first paragraph of some words.\nSubscribe to our newsletter!\n"
    assert paragraphs.pass_on(first) == (first, 0)
    text, repeated = paragraphs.pass_on("Another title\nSubscribe  to our NEWSLETTER!\n\n  Indented and new\n")
    assert (text, repeated) == ("Another title\n\n  Indented and new\n", 1)
    assert paragraphs.pass_on("A first paragraph of some words.\n\nTitle") == (None, 2)
    assert paragraphs.pass_on("new twice\nnew twice") == ("new twice", 1)
    assert paragraphs.seen == 6
    assert paragraphs.pass_on("") == ("", 0) and paragraphs.pass_on("\n \n") == ("\n \n", 0)


def test_short_paragraphs_may_stay_and_a_document_that_is_mostly_repeated_may_go() -> None:
    config = RepeatedParagraphs(expected=1000, min_characters=20, drop_share=0.8)
    paragraphs, long = Paragraphs(config), "A paragraph of more than twenty characters."
    assert paragraphs.pass_on(f"Summary\n{long}") == (f"Summary\n{long}", 0)
    assert paragraphs.pass_on(f"Summary\n{long}\n{'n' * 40}") == (f"Summary\n{'n' * 40}", 1)
    assert paragraphs.pass_on(f"Summary\n{long}") == (None, 1)  # 37 of 44 characters
    keys = paragraph_keys(f"Summary\n{long}", 20)
    assert len(keys) == 1 and paragraphs.pass_on(f"Summary\n{long}", keys) == (None, 1)
