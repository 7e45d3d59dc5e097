"""reasoning-gym's questions as prompts. The package is installed by `make gym`; without it these tests are skipped, but for the
first."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from lehr.data import reasoning
from lehr.data.synthetic import gym
from lehr.data.synthetic.conversations import check_families, conversation, in_turn
from lehr.data.synthetic.splits import SPLITS, check_disjoint
from lehr.post.verifiers import check_args, verify
from lehr.runtime.errors import UserError

PLACE = os.environ.get("LEHR_GYM", str(Path("~/.cache/lehr/gym").expanduser()))
if not importlib.util.find_spec("reasoning_gym") and Path(PLACE, "reasoning_gym").is_dir():
    sys.path.append(PLACE)
HAS_IT = importlib.util.find_spec("reasoning_gym") is not None
needs_it = pytest.mark.skipif(not HAS_IT, reason="reasoning-gym is not installed (make gym)")
EASY = "gym:chain_sum max_terms=2 max_digits=1 min_digits=1"


def test_without_the_package_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "find_spec", lambda name: None)
    reasoning._made.cache_clear()
    with pytest.raises(UserError, match=r"gym:chain_sum needs the package reasoning-gym\. Install it"):
        check_families(["gym:chain_sum"], "families")


@needs_it
@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("gym:", "names no generator"),
        ("gym:chain_some", "reasoning-gym has no 'chain_some'"),
        ("gym:chain_sum terms=3", "does not take"),
        ("gym:chain_sum min_terms=0", "does not take"),
        ("gym:chain_sum easy", "'easy' is no setting"),
        ("gym:game_of_life", "needs the package cellpylib"),
        ("gym:zebra_puzzles", "needs the package pycosat"),
        ("gym:codeio", "needs the package zss"),
    ],
)
def test_what_cannot_be_asked_is_said(family: str, says: str) -> None:
    with pytest.raises(UserError, match=f"^rl.families: .*{says}"):
        check_families([family], "rl.families")


@needs_it
def test_questions_follow_from_the_seed_and_settings_change_them() -> None:
    first = [e.prompt[0].content for e in in_turn([EASY, "gym:simple_equations"], "train", 20, 1)]
    assert first == [e.prompt[0].content for e in in_turn([EASY, "gym:simple_equations"], "train", 20, 1)]
    assert first != [e.prompt[0].content for e in in_turn([EASY, "gym:simple_equations"], "train", 20, 2)]
    hard = conversation("gym:chain_sum min_terms=6 max_terms=6", "train", 0, 1).prompt[0].content
    assert hard.count("+") + hard.count("-") >= 5 and len(first[0]) < len(hard)


@needs_it
def test_no_question_is_in_two_splits_under_any_seed() -> None:
    sets = {split: [conversation(EASY, split, i, seed) for seed in (1, 2) for i in range(60)] for split in SPLITS}
    assert min(check_disjoint(sets).values()) > 10


@needs_it
def test_a_generator_with_few_questions_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "_TRIES", 0)
    with pytest.raises(UserError, match="has no question in the split 'dev'"):
        conversation(EASY, "dev", 0, 1)


@needs_it
def test_answers_are_scored_by_the_generators_own_rules_in_the_sandbox(tmp_path: Path) -> None:
    for family in (EASY, "gym:countdown", "gym:number_sorting"):
        example = conversation(family, "held_out", 3, 1)
        check_args(example.verifier, example.verifier_args)
        answer = example.messages[-1].content
        for text in (answer, f"I think.\n<answer>1</answer> no, <answer> {answer} </answer>"):
            assert verify(example.verifier, example.verifier_args, text, True) == 1.0
        assert verify(example.verifier, example.verifier_args, "no idea", True) < 0.1
    made = tmp_path / "made"
    hostile = f"__import__('pathlib').Path({str(made)!r}).write_text('x')"  # countdown evaluates what it is given
    args = conversation("gym:countdown", "train", 0, 1).verifier_args
    assert verify("reasoning_gym", args, hostile, True) < 0.1 and not made.exists()
