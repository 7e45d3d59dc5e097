"""Wrong arguments of verifiers: one message that names verifier and argument, before any training."""

from __future__ import annotations

from typing import Any

import pytest

from lehr.config.parallel import Parallel
from lehr.config.posttraining import GrpoStep
from lehr.config.training import Watch
from lehr.data.synthetic.conversations import FAMILIES, conversation
from lehr.pipeline.step_context import StepContext
from lehr.post.verifiers import VERIFIERS, check_args, verify
from lehr.runtime.errors import UserError
from lehr.stages.grpo import expand

CODE = {"tests": ["assert f(2) == 4"]}
CALLS = [{"name": "f", "arguments": {}}]
KEYWORD = "keywords:frequency"


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("last_integer", {}, "argument answer: Field required"),
        ("last_integer", {"answer": "many"}, "argument answer: it is not an integer"),
        ("last_integer", {"answer": 5, "anwser": 5}, "argument anwser"),
        ("last_integer", [5], "a mapping, not list"),
        ("exact", {"text": 5}, "argument text"),
        ("repeat", {"word": "sun", "times": 0}, "argument times"),
        ("repeat", {"word": "sun", "times": True}, "argument times"),
        ("ordered_list", {"items": "sun"}, "argument items"),
        ("json_object", {"object": {"a": float("nan")}}, "not plain JSON"),
        ("json_object", {"object": {"a": {1, 2}}}, "not plain JSON"),
        ("no_prefix", {"of": 1}, "argument of"),
        ("all_of", {"of": []}, "argument of"),
        ("all_of", {"of": [["last_integer", {}]]}, "'last_integer', argument answer"),
        ("all_of", {"of": ["last_integer"]}, "a verifier's name and its arguments"),
        ("after_chatter", {"of": ["vibes", {}]}, "no verifier 'vibes'"),
        ("last_number", {"answer": "none"}, "it has no number"),
        ("exact_match", {"answers": []}, "argument answers"),
        ("exact_match", {"answers": ["a"], "normalise": "all"}, "argument normalise"),
        ("regex", {"pattern": "(a"}, "the pattern is wrong"),
        ("math_equal", {"answer": ""}, "argument answer"),
        ("instructions", {"instruction_id_list": ["no:such"], "kwargs": [{}]}, "no instruction 'no:such'"),
        ("instructions", {"instruction_id_list": [KEYWORD], "kwargs": []}, "1 instructions and 0 kwargs"),
        ("instructions", {"instruction_id_list": [KEYWORD], "kwargs": [{"keyword": "a"}]}, f"'{KEYWORD}', frequency"),
        ("json_schema", {"schema": {"type": "integr"}}, "no JSON schema"),
        ("json_schema", {"schema": {"$ref": "other.json"}}, "another document, 'other.json'"),
        ("tool_call", {}, "neither calls nor tools"),
        ("tool_call", {"calls": [{"name": "f"}]}, "argument calls.0.arguments"),
        ("tool_call", {"tools": [{"name": "f", "parameters": {"type": 5}}]}, "no JSON schema"),
        ("code_tests", {}, "neither tests nor cases"),
        ("code_tests", {"tests": ["assert f(2) =="]}, "a test is not Python"),
        ("code_tests", {"cases": [{"input": "1"}]}, "argument cases.0.output"),
        ("code_tests", {**CODE, "seconds": 3600}, "argument seconds"),
        ("reasoning_gym", {"name": "chain_sum"}, "argument index"),
        ("no_module:f", {}, "no_module"),
    ],
)
def test_wrong_arguments_are_named(name: str, args: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        check_args(name, args)
    assert says in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("last_integer", {"answer": "-5"}),
        ("last_integer", {"answer": 5}),
        ("all_of", {"of": [["last_integer", {"answer": 5}], ["no_prefix", {}]]}),
        ("last_number", {"answer": "He pays 3 * 4.\n#### 12"}),
        ("exact_match", {"answers": ["Paris"], "normalise": "squad"}),
        ("instructions", {"instruction_id_list": [KEYWORD, "punctuation:no_comma"], "kwargs": [
            {"keyword": "sun", "frequency": 2, "relation": "at least", "num_words": None}, {}]}),
        ("tool_call", {"calls": CALLS}),
        ("tool_call", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}),
        ("code_tests", CODE),
        ("code_tests", {"cases": [{"input": "2", "output": "4"}], "seconds": 2}),
    ],
)  # fmt: skip
def test_right_arguments_pass(name: str, args: Any) -> None:
    check_args(name, args)


def test_the_arguments_that_our_own_data_carries_are_right() -> None:
    for family in FAMILIES:
        example = conversation(family, "train", 0, 1)
        check_args(example.verifier, example.verifier_args)


def test_a_missing_package_is_named_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from lehr.post.verifiers import arguments

    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    for name, args in {"math_equal": {"answer": "1"}, "regex": {"pattern": "a"}, "json_schema": {"schema": {}}}.items():
        with pytest.raises(UserError, match=r"needs the package.*pip install 'lehr\[rl\]'"):
            check_args(name, args)


def brief(args: Any, text: str) -> bool:
    return len(text) <= args["most"]


def _most(args: Any) -> None:
    if "most" not in args:
        raise UserError("brief needs most")


def test_a_verifier_of_ones_own_may_check_its_arguments() -> None:
    brief.check_args = _most  # type: ignore[attr-defined]
    VERIFIERS["brief"] = brief
    try:
        check_args("brief", {"most": 3})
        assert verify("brief", {"most": 3}, "abc", True) == 1.0
        with pytest.raises(UserError, match="brief needs most"):
            check_args("brief", {})
    finally:
        del VERIFIERS["brief"]


def test_an_answer_that_does_not_end_is_not_looked_at() -> None:
    assert verify("last_number", {"answer": 5}, "5", False) == 0.0


def test_a_bonus_that_needs_arguments_is_refused_before_training() -> None:
    place = StepContext("sft", 1, Parallel(), Watch(), {}, 128, False)
    step = GrpoStep(name="rl", kind="grpo", optim={"lr": 1e-5}, families=["math"], bonus={"last_integer": 0.1})  # type: ignore
    with pytest.raises(UserError, match=r"^posttraining.rl.bonus: verifier 'last_integer', argument answer"):
        expand(step, place)
