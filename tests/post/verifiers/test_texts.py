"""Verifiers against answers that try to look right."""

from __future__ import annotations

from typing import Any

import pytest

from lehr.post.verifiers import has_prefix, last_integer, verify
from lehr.runtime.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 85.", 85),
        ("47 + 38 = 7 + 8 = 15, 4 + 3 + 1 = 8, so 85", 85),
        ("so 1,234 in all", 1234),
        ("1,2", 2),
        ("12, 34, 56,", 56),
        ("1,2345", 2345),
        ("= -5", -5),
        ("-5", -5),
        ("(-5)", -5),
        ("3-5", 5),
        ("3 -5", 5),
        ("3 - 5", 5),
        ("answer 85.5", None),
        ("it is 12 or 85.0", None),
        ("no number", None),
        ("", None),
        ("007", 7),
        ("9" * 5000, None),
        ("٣", None),
    ],
)
def test_last_integer(text: str, value: int | None) -> None:
    assert last_integer(text) == value


STRICT: dict[str, Any] = {"answer": "85"}
REPEAT: dict[str, Any] = {"word": "sun", "times": 3}
ITEMS: dict[str, Any] = {"items": ["moon", "tree", "sun"]}
OBJECT: dict[str, Any] = {"object": {"name": "sun", "count": 1}}


@pytest.mark.parametrize(
    ("name", "args", "text", "passes"),
    [
        ("last_integer", STRICT, "I think 85", True),
        ("last_integer", STRICT, "85, no, 86", False),
        ("last_integer", STRICT, "", False),
        ("last_integer", {"answer": "-5"}, "it is -5", True),
        ("strict_answer", STRICT, "The answer is 85.", True),
        ("strict_answer", STRICT, "47 + 38 = 7 + 8 = 15, 4 + 3 + 1 = 8, so the answer is 85.", True),
        ("strict_answer", STRICT, "  The answer is 85.\n", True),
        ("strict_answer", STRICT, "Sure! The answer is 85.", False),
        ("strict_answer", STRICT, "The answer is 85", False),
        ("strict_answer", STRICT, "The answer is 085.", False),
        ("strict_answer", STRICT, "The answer is 85. The answer is 86.", False),
        ("strict_answer", STRICT, "The answer is 84. The answer is 85.", False),
        ("strict_answer", STRICT, "The answer is 85. Anything else?", False),
        ("strict_answer", STRICT, "47 + 38 = 85", False),
        ("strict_answer", STRICT, "", False),
        ("exact", {"text": "I am Lehr."}, " I am Lehr.", True),
        ("exact", {"text": "I am Lehr."}, "I am Lehr. Hello.", False),
        ("repeat", REPEAT, "sun sun sun", True),
        ("repeat", REPEAT, "sun sun sun sun", False),
        ("repeat", REPEAT, "sun sunsun", False),
        ("repeat", REPEAT, "Sun sun sun", False),
        ("ordered_list", ITEMS, "moon, tree, sun", True),
        ("ordered_list", ITEMS, "moon,tree , sun.", True),
        ("ordered_list", ITEMS, "sun, tree, moon", False),
        ("ordered_list", ITEMS, "moon, tree, sun, sun", False),
        ("ordered_list", ITEMS, "Here you go: moon, tree, sun", False),
        ("json_object", OBJECT, ' {"count": 1, "name": "sun"} ', True),
        ("json_object", OBJECT, '{"name": "sun", "count": 1}!', False),
        ("json_object", OBJECT, '{"name": "sun", "count": "1"}', False),
        ("json_object", OBJECT, '{"name": "sun", "count": true}', False),
        ("json_object", OBJECT, '{"name": "sun", "count": 1.0}', False),
        ("json_object", OBJECT, '{"count": 9, "name": "sun", "count": 1}', False),
        ("json_object", OBJECT, "[" * 100_000, False),
        ("json_object", OBJECT, "", False),
        ("no_prefix", {}, "85", True),
        ("no_prefix", {}, "Certainly! 85", False),
        ("no_prefix", {}, " ", False),
        ("all_of", {"of": [["last_integer", STRICT], ["no_prefix", {}]]}, "It is 85", True),
        ("all_of", {"of": [["last_integer", STRICT], ["no_prefix", {}]]}, "Sure! It is 85", False),
        ("all_of", {"of": [["last_integer", STRICT], ["no_prefix", {}]]}, "It is 86", False),
    ],
)
def test_verify(name: str, args: dict[str, Any], text: str, passes: bool) -> None:
    assert verify(name, args, text, finished=True) == float(passes)
    assert verify(name, args, text, finished=False) == 0.0, "an answer that never ends is never right"


def test_chatter_is_not_any_word_that_begins_like_it() -> None:
    assert has_prefix("Sure, 85") and has_prefix("  of course. 85")
    assert not has_prefix("Surely you jest") and not has_prefix("okra, salt")


def test_an_unknown_verifier_is_named() -> None:
    with pytest.raises(UserError, match="no verifier 'vibes'"):
        verify("vibes", {}, "85", finished=True)
