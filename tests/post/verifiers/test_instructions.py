"""IFEval's instructions. Cases were drawn where the 22 kinds that need no tagger agree with IFEval's own code on
60,000 random texts."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lehr.post.verifiers import check_args, verify
from lehr.post.verifiers.instructed import sentences
from lehr.post.verifiers.instructions import KINDS

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["cat", "C++"]}, ["Cat and c++"], ["cat and C"]),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "at least"}, ["cat Concat"], ["cat"]),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}, ["cat"], ["cat cat"]),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, ["concat"], ["a Cat."]),
    ("keywords:letter_frequency", {"letter": "A", "let_frequency": 2, "let_relation": "at least"}, ["aA"], ["ab"]),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, ["One. Two!"], ["Dr. No."]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a\n***\nb", "***a***b"], ["a\n\nb", "a *** *** b"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["one, two"], ["one-two three"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Hello"},
        ["a\n\n'hello, b"],
        ["hello\n\nb", "a\n\nhello\n\nc"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b]"], ["[a [b]", "[a\n] [b]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye. p. s. more"], ["PS more"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["p.p.s more"], ["p.s. more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n - b", "- a\n- b"], ["* a\n** b", "- a"]),
    ("detectable_format:constrained_response", {}, ["So: My answer is no."], ["My answer is perhaps."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* *b*", "**a** *b*"], ["*a* * *"]),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        ["Part 1\na\nPart 2\nb"],
        ["Part 1\nPart"],
    ),
    ("detectable_format:json_format", {}, ['```json\n{"a": 1}\n```', "[1]"], ["{'a': 1}", "[" * 100_000]),
    ("detectable_format:title", {}, ["<<A title>>\ntext"], ["<title>", "<< >>", "<<>>", "<<a\n>>"]),
    ("combination:two_responses", {}, ["a\n******\nb"], ["a", "a******a", "a******b******c"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, [" say hi. Hi."], ["Hi. Say hi."]),
    ("startend:end_checker", {"end_phrase": "The end."}, ['so. "the END."'], ["The end. Or not?"]),
    ("startend:quotation", {}, [' "a" '], ['"a', '"']),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["NASA's (USA)"],
        ["Nasa USA"],
    ),
    ("change_case:english_capital", {}, ["ALL OF IT, 5!"], ["All"]),
    ("change_case:english_lowercase", {}, ["all of it, 5!"], ["All"]),
    ("punctuation:no_comma", {}, ["none; here"], ["one, here"]),
]


@pytest.mark.parametrize(("name", "kwargs", "right", "wrong"), CASES)
def test_an_instruction_is_seen_to_be_followed_or_not(
    name: str, kwargs: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    args = {"instruction_id_list": [name], "kwargs": [kwargs]}
    check_args("instructions", args)
    assert [verify("instructions", args, text, True) for text in right] == [1.0] * len(right)
    assert [verify("instructions", args, text, True) for text in wrong] == [0.0] * len(wrong)


def test_every_kind_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(KINDS)


def test_all_instructions_must_be_followed_and_an_empty_answer_follows_none() -> None:
    args = {"instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"], "kwargs": [{}, {}]}
    assert verify("instructions", args, "yes", True) == 1.0
    assert verify("instructions", args, "Yes", True) == verify("instructions", args, " ", True) == 0.0


def test_loosely_an_opening_an_end_and_asterisks_are_forgiven() -> None:
    args = {"instruction_id_list": ["startend:quotation"], "kwargs": [{}], "loose": True}
    for text in ('Sure:\n"a"', '"a"\nHope this helps', 'Sure:\n*"a"*\nBye'):
        assert verify("instructions", args, text, True) == 1.0
        assert verify("instructions", {**args, "loose": False}, text, True) == 0.0
    assert verify("instructions", args, "a", True) == 0.0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("No point", 1),
        ("One. Two? Three!", 3),
        ("It costs 3.50. Really.", 2),
        ("Mr. Smith of the U.S. Army came. He left.", 2),
        ('He said "Go." Then he went.', 2),
        ("e.g. This is one", 1),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "*" * 20_000, "<<" * 10_000, "\n" * 20_000, "." * 20_000, " " * 20_000 + "a", "A." * 9_000]
)
def test_no_text_takes_long(text: str) -> None:
    began = time.monotonic()
    for name, kwargs, *_ in CASES:
        KINDS[name][0](kwargs, text)
    assert time.monotonic() - began < 5
