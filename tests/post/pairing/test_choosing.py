"""Which answers make a pair, and how gold ones are made wrong."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.data.synthetic.conversations import Message
from lehr.post.pairing.choosing import gap, rated, verified
from lehr.post.pairing.judge import rating_in
from lehr.post.pairing.perturbed import perturbed
from lehr.post.pairing.questions import Question

SUM = Question("math", (Message("user", "2 + 2?"),), "It is 4.", "last_integer", {"answer": 4})


def test_a_verified_answer_against_a_failed_one() -> None:
    assert verified(SUM, ["5", None, "so 4", "4", "3"], False) == ("so 4", "5")
    assert verified(SUM, ["4", None], False) is None is verified(SUM, ["5", None], False)
    assert verified(SUM, ["5", None], True) == ("It is 4.", "5")


def test_the_highest_mean_against_one_of_the_rest() -> None:
    answers, ratings = ["a", "b", None, "c", "b ", "d"], [2.0, 4.5, None, None, 3.0, 4.5]
    found = {rated(answers, ratings, seed) for seed in range(60)}
    assert found == {("b", "a")}  # d is rated alike, c not at all, and `b ` reads as b does
    assert {rated([*answers, "e"], [*ratings, 1.0], seed) for seed in range(60)} == {("b", "a"), ("b", "e")}
    assert rated(["a", "b"], [3.0, 3.0], 0) is None is rated([None], [None], 0)


def test_the_gap_takes_the_stronger_models_answer() -> None:
    assert gap([None, "well said", "x"], ["well said", None, "er"]) == ("well said", "er")
    assert gap([None], ["a"]) is None is gap(["a"], ["a", None])


_NUMBERS = re.compile(r"\d[\d,]*(?:\.\d+)?")


@given(st.lists(st.one_of(st.integers(0, 10**7), st.decimals(0, 10**4, places=2)), min_size=1, max_size=5), st.integers(0, 99))
def test_a_perturbed_answer_differs_by_close_numbers_alone(numbers: list[object], seed: int) -> None:
    text = "so " + " and ".join(f"{n:,}" if isinstance(n, int) and n % 2 else str(n) for n in numbers) + "."
    wrong = perturbed(text, seed)
    assert wrong is not None and wrong != text and perturbed(text, seed) == wrong
    assert _NUMBERS.sub("#", wrong) == _NUMBERS.sub("#", text)
    for before, after in zip(_NUMBERS.findall(text), _NUMBERS.findall(wrong), strict=True):
        old, new = (float(x.replace(",", "").rstrip(".")) for x in (before, after))
        last = 0.1 ** len(before.partition(".")[2])
        assert abs(new - old) <= max(0.1 * old, last) + 1e-9 and new >= 0
        assert len(before.partition(".")[2]) == len(after.partition(".")[2])


def test_what_has_no_number_cannot_be_perturbed() -> None:
    assert perturbed("no number here: v2 and x1", 0) is None


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Good.\nRating: 4", 4), ("**Rating:** 5", 5), ("Rating: 2, or rather\nrating: 3.", 3), ("3", 3), (" 1. ", 1),
        ("Rating: 4/5", 4), ("Rating: 10", None), ("Rating: 45", None), ("no idea", None), ("Rating: 6", None), ("", None),
    ],
)  # fmt: skip
def test_a_reply_states_its_rating(reply: str, rating: int | None) -> None:
    assert rating_in(reply) == rating
