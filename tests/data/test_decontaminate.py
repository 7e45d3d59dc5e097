"""Decontamination against a plain search."""

from __future__ import annotations

import random

import numpy as np

from lehr.data.decontaminate import Decontaminator
from lehr.data.leaks import judged_text


def judged(index: Decontaminator, text: str) -> str | None:
    """The task that a text contaminates."""
    [shared] = index.shared([text])
    found = judged_text(index, text, shared)
    return found.worst if found else None


def seen(index: Decontaminator, texts: list[str]) -> np.ndarray:
    """In how many of the texts each n-gram of the index occurs."""
    found = np.zeros(len(index), np.int64)
    for shared in index.shared(texts):
        found[sorted(set(shared))] += 1
    return found


def test_a_leak_is_found_and_boilerplate_is_no_leak() -> None:
    leak = "one two three four five six seven eight nine ten eleven"
    form = "this form must be filled in with black ink by everybody who asks"
    index = Decontaminator({"quiz": [leak], "held_out documents": [form + " for it"]}, 10, {"quiz": 1, "held_out documents": 1})

    def contaminated(text: str) -> str | None:
        return judged(index, text)

    assert contaminated("Before. One, two; THREE four five six seven eight nine ten. After.") == "quiz"
    assert contaminated("one two three four five six seven eight nine and then ten") is None
    assert contaminated(form) == "held_out documents"
    assert index.forget_common(seen(index, [form] * 11), 10, ["held_out documents"]) > 0
    assert contaminated(form) is None
    index.forget_common(seen(index, [leak] * 50), 10, ["held_out documents"])
    assert contaminated(leak) == "quiz"  # a leak stays one, however often it stands there


def test_an_ngram_of_two_tasks_counts_for_each() -> None:
    """The first three n-grams stand in both tasks, the fourth in `second` alone; it takes four to be contaminated."""
    shared, more = "one two three four five", "one two three four five six"
    for texts in ({"first": [shared], "second": [more]}, {"second": [more], "first": [shared]}):
        index = Decontaminator(texts, 3, {"first": 4, "second": 4})
        [found] = index.shared([more])
        assert judged(index, more) == "second"
        assert index.items(found) == {("first", 0): 3, ("second", 0): 4}  # of both texts, whichever comes first
        index.forget_common(seen(index, [more] * 2), 1, ["second"])
        assert judged(index, more) is None and judged(index, f"{more} and {more}") == "first"
        assert index.items(found) == {("first", 0): 3}


def test_shared_ngrams_are_those_that_a_plain_search_finds() -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdef", k=draw.randrange(40))) for _ in range(300)]
    index = Decontaminator({"quiz": texts[:50]}, 4, {"quiz": 1})

    def grams(text: str) -> list[tuple[str, ...]]:
        return list(zip(*(text.split()[i:] for i in range(4)), strict=False))

    known = {gram for text in texts[:50] for gram in grams(text)}
    expected = [sum(gram in known for gram in grams(text)) for text in texts]
    assert [len(shared) for shared in index.shared(texts)] == expected  # none runs from one document into the next
    assert 0 < sum(expected) < sum(len(grams(text)) for text in texts)
