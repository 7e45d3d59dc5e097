"""Whole paragraphs of evaluation texts are found wherever they stand, and what is taken for one by mistake is told apart."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from lehr.config.decontamination import LeakedParagraphs
from lehr.data.decontaminate import Decontaminator
from lehr.data.leaks import Found, judged_text, rows
from lehr.data.paragraph_index import ParagraphIndex

ASKED = "A farmer keeps nineteen goats and sells four of them every week until none of them are left"
TAIL = "and then the sun went down over the hill and everybody who was there walked slowly home"
CHINESE = "\u519c\u592b\u6709\u5341\u4e5d\u53ea\u5c71\u7f8a\u6bcf\u5468\u5356\u6389\u56db\u53ea"


def found(index: Decontaminator, text: str) -> Found | None:
    [shared] = index.shared([text])
    holds = judged_text(index, text, shared)
    return holds and holds._replace(keys=frozenset())  # hashes, which nobody can read


def test_a_paragraph_is_found_where_ngrams_are_too_few() -> None:
    """18 words are nine n-grams of ten; the rule of n-grams asks for fifty."""
    index = Decontaminator({"quiz": ["Short.", f"Before it.\n{ASKED}\nAfter it."]}, 10, {"quiz": 50}, LeakedParagraphs())
    assert found(index, f"A page.\n  {ASKED.upper()} \nMore of it.") == Found("quiz", {("quiz", 1): (9, 1)})
    assert found(index, f"A page.\n{ASKED} {TAIL}\nMore of it.") is None  # no whole paragraph
    [shared] = index.shared([page := f"A page.\n  {ASKED.upper()} \nMore of it."])
    holds = judged_text(index, page, shared)
    assert holds and [row["paragraph"] for row in rows(index, holds, ("web", "7"))] == [ASKED], "as the example has it"
    assert found(index, "Short.\nBefore it.\nAfter it.") is None  # too short to be one
    without = Decontaminator({"quiz": [ASKED]}, 10, {"quiz": 50})
    assert found(without, ASKED) is None


def test_words_without_blanks_between_them_count_by_character() -> None:
    index = Decontaminator({"quiz": [CHINESE, "\u2014 * \u2022 " * 20]}, 10, {"quiz": 1}, LeakedParagraphs())
    assert found(index, f"\u5f00\u59cb\n{CHINESE}\n") == Found("quiz", {("quiz", 0): (0, 1)})
    assert found(index, "\u2014 * \u2022 " * 20) is None  # punctuation alone is no paragraph


def test_the_filter_lets_through_what_it_says_and_nothing_comes_of_it(tmp_path: Path) -> None:
    draw, rate = random.Random(1), 0.05
    lines = [" ".join(str(draw.randrange(10**6)) for _ in range(13)) for _ in range(12_000)]
    config = LeakedParagraphs(false_positives=rate)
    index = ParagraphIndex({"quiz": lines[:2000]}, config)
    index.save(tmp_path)
    loaded = ParagraphIndex.load(tmp_path, config)
    assert loaded.suspects("\n".join(lines[:2000])) == index.suspects("\n".join(lines[:2000]))
    assert sum(index.items(index.suspects("\n".join(lines[:2000]))).values()) == 2000
    wrong = loaded.suspects("\n".join(lines[2000:]))
    assert abs(len(wrong) - rate * 10_000) < 5 * np.sqrt(rate * 10_000)
    assert index.mistaken(wrong) == len(wrong) and not index.items(wrong)


def test_a_paragraph_of_two_texts_is_of_both_and_boilerplate_is_forgotten_where_it_may_be() -> None:
    texts = {"quiz": [ASKED], "held_out documents": ["Else.", f"{ASKED}\n{TAIL}"]}
    index = ParagraphIndex(texts, LeakedParagraphs())
    keys = index.suspects(f"{ASKED}\n{TAIL}\n{TAIL}")
    assert index.items(keys) == {("quiz", 0): 1, ("held_out documents", 1): 2}
    assert index.forget_common(dict.fromkeys(keys, 5), 5, ["held_out documents"]) == 0
    assert index.forget_common(dict.fromkeys(keys, 6), 5, ["held_out documents"]) == 2
    assert index.items(keys) == {("quiz", 0): 1}
