"""Numbers, texts, patterns, mathematics, JSON and calls of tools in answers."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from lehr.post.verifiers import check_args, verify
from lehr.post.verifiers.matching import normalised


@pytest.mark.parametrize(
    ("text", "answer", "passes"),
    [
        ("so 18.", 18, True),
        ("so 18.0 dollars", 18, True),
        ("$1,234.50 in all", "1234.5", True),
        ("it is -$5", -5, True),
        ("it is $-5", -5, True),
        ("it is \u22125", "-5", True),
        ("7-5", 5, True),
        ("7 - 5", 5, True),
        ("one half is .5", 0.5, True),
        ("12%", 12, True),
        ("€3", 3, True),
        ("1,2345", 2345, True),
        ("3 + 4 = 7\n#### 7", 7, True),
        ("#### 7 apples for 2 people", 7, True),
        ("7\n####", 7, False),
        ("first 18, then 19", 18, False),
        ("18.5", 18, False),
        ("18", "#### 18", True),
        ("none", 0, False),
        ("9" * 5000, 9, False),
        ("٣", 3, False),
    ],
)
def test_last_number(text: str, answer: Any, passes: bool) -> None:
    assert verify("last_number", {"answer": answer}, text, True) == float(passes)


@pytest.mark.parametrize(
    ("text", "args", "passes"),
    [
        ("  Paris \n", {"answers": ["Lyon", "Paris"]}, True),
        ("paris", {"answers": ["Paris"]}, False),
        ("The  Paris!", {"answers": ["paris"], "normalise": "squad"}, True),
        ("Paris, Texas", {"answers": ["paris"], "normalise": "squad"}, False),
        ("e\u0301", {"answers": ["\u00e9"]}, True),
        ("e\u0301", {"answers": ["\u00e9"], "normalise": "none"}, False),
        ("a theatre", {"answers": ["theatre"], "normalise": "squad"}, True),
    ],
)
def test_exact_match(text: str, args: dict[str, Any], passes: bool) -> None:
    assert verify("exact_match", args, text, True) == float(passes)


def test_normalising_twice_changes_nothing() -> None:
    for how in ("none", "spaces", "squad"):
        once = normalised("  The a-b, the  CAT's\t\u00c9 ", how)
        assert normalised(once, how) == once


@pytest.mark.parametrize(
    ("args", "text", "passes"),
    [
        ({"pattern": r"\d{4}"}, "in 1999.", True),
        ({"pattern": r"\d{4}", "whole": True}, "in 1999.", False),
        ({"pattern": "yes"}, "YES", False),
        ({"pattern": "yes", "ignore_case": True}, "YES", True),
    ],
)
def test_regex(args: dict[str, Any], text: str, passes: bool) -> None:
    assert verify("regex", args, text, True) == float(passes)


def test_a_pattern_that_backtracks_for_years_is_stopped() -> None:
    began = time.monotonic()
    assert verify("regex", {"pattern": r"(\w+\s?)+#$"}, "word " * 40 + "!", True) == 0.0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("answer", "text", "passes"),
    [
        ("1/2", "The answer is \\boxed{\\frac12}.", True),
        ("\\frac{1}{2}", "so it is $0.5$", True),
        ("x^2+2x+1", "it is $(x+1)^2$", True),
        ("5", "The answer is 5.", True),
        ("(1, 2)", "\\boxed{(1,2)}", True),
        ("\\{1,2\\}", "\\boxed{\\{2, 1\\}}", True),
        ("5", "the answer is \\boxed{6}, not 5", False),
        ("x+1", "it is $x-1$", False),
        ("5", "", False),
    ],
)
def test_math_equal(answer: str, text: str, passes: bool) -> None:
    check_args("math_equal", {"answer": answer})
    assert verify("math_equal", {"answer": answer}, text, True) == float(passes)


def test_mathematics_without_an_end_costs_its_own_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lehr.post.verifiers.mathematics._SECONDS", 0.5)
    began = time.monotonic()
    assert verify("math_equal", {"answer": "5"}, "$9^{9^{9^{9}}}$", True) == 0.0
    assert time.monotonic() - began < 5, "a signal alone would wait for the power to be computed"
    assert verify("math_equal", {"answer": "5"}, "$5$", True) == 1.0


SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ('{"age": 5}', True),
        ('```json\n{"age": 5}\n```', True),
        ('{"age": 5} ok', False),
        ('{"age": "5"}', False),
        ('{"age": 5, "age": 6}', False),
        ('{"age": NaN}', False),
        ("{}", False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_json_schema(text: str, passes: bool) -> None:
    check_args("json_schema", {"schema": SCHEMA})
    assert verify("json_schema", {"schema": SCHEMA}, text, True) == float(passes)


def test_a_schema_whose_pattern_backtracks_for_years_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lehr.post.verifiers.schemas._SECONDS", 0.5)
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert verify("json_schema", {"schema": schema}, json.dumps("a" * 40 + "!"), True) == 0.0
    assert verify("json_schema", {"schema": schema}, json.dumps("aaa"), True) == 1.0


ONE = {"name": "weather", "arguments": {"city": "Rome", "days": 2}}
TWO = {"name": "time", "arguments": {}}
TOOLS = [
    {"name": "weather", "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["city"]}}
]


@pytest.mark.parametrize(
    ("args", "text", "passes"),
    [
        ({"calls": [ONE]}, '{"arguments": {"days": 2, "city": "Rome"}, "name": "weather"}', True),
        ({"calls": [ONE, TWO]}, f"[{json.dumps(TWO)}, {json.dumps(ONE)}]", True),
        ({"calls": [ONE, TWO]}, f"<tool_call>{json.dumps(TWO)}</tool_call>\n<tool_call>{json.dumps(ONE)}</tool_call>", True),
        ({"calls": [ONE]}, f"<|tool_call|>[{json.dumps(ONE)}]", True),
        ({"calls": [TWO]}, '{"id": "1", "type": "function", "function": {"name": "time", "arguments": "{}"}}', True),
        ({"calls": [ONE]}, f"[{json.dumps(ONE)}, {json.dumps(ONE)}]", False),
        ({"calls": [ONE]}, f"Sure! <tool_call>{json.dumps(ONE)}</tool_call>", False),
        ({"calls": [ONE]}, json.dumps({"name": "weather", "arguments": {"city": "Rome", "days": 2.0}}), False),
        ({"calls": [ONE]}, json.dumps({**ONE, "extra": 1}), False),
        ({"calls": [ONE]}, "weather", False),
        ({"calls": [ONE]}, "[]", False),
        ({"tools": TOOLS}, json.dumps(ONE), True),
        ({"tools": TOOLS}, json.dumps({"name": "weather", "arguments": {"days": 2}}), False),
        ({"tools": TOOLS}, json.dumps({"name": "weather", "arguments": {"city": "Rome", "days": "2"}}), False),
        ({"tools": TOOLS}, json.dumps(TWO), False),
        ({"tools": TOOLS, "calls": [ONE]}, json.dumps(ONE), True),
    ],
)
def test_tool_call(args: dict[str, Any], text: str, passes: bool) -> None:
    assert verify("tool_call", args, text, True) == float(passes)
