"""The best of several answers: what is chosen, what is left out, and what more answers bring, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.best_rows import Answered, curve, write_best
from lehr.post.sets.asked_prompts import Asked
from lehr.post.sets.pool import Pool
from lehr.runtime.errors import UserError

TOKENIZER = Tokenizer.train(["a b c d " * 50], 300)
NAN = float("nan")


def answered(scores: list[list[float]], verified: list[list[float]], *, rewards: bool = True) -> Answered:
    """Two prompts with a verifier, one without; an answer without an end has neither score nor judgement."""
    asked = [Asked("v", (Message("user", f"{i}"),), "exact" if i < 2 else "", {}) for i in range(len(verified))]
    scores_MPS = np.array(scores)[None]
    prompts, answers = [[5 + p] for p in range(len(verified))], [[40 + i] for i in range(scores_MPS.size)]
    ended = ~np.isnan(scores_MPS[0])
    return Answered(asked, prompts, answers, ended, ["r"], [1.0], scores_MPS if rewards else None, np.array(verified))


SCORES = [[1.0, 4.0, NAN, 2.0], [NAN, NAN, NAN, 0.0], [3.0, 1.0, 2.0, 1.0]]
VERIFIED = [[1.0, 0.0, NAN, 1.0], [NAN, NAN, NAN, 1.0], [NAN, NAN, NAN, NAN]]


def write(found: Answered, tmp_path: Path, **keys: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config: Any = SimpleNamespace(**{"ensemble": "geometric", "n": 4, "max_length": 50, **keys})
    context: Any = SimpleNamespace(out=tmp_path, name="best-rows")
    said = write_best(context, config, TOKENIZER, found)
    return said, [json.loads(line) for line in (tmp_path / "best.jsonl").read_text().splitlines()]


def test_the_best_by_the_rewards_is_learned(tmp_path: Path) -> None:
    said, rows = write(answered(SCORES, VERIFIED), tmp_path)
    assert [row["best"] for row in rows] == [1, 3, 0] and [row["verified"] for row in rows] == [0.0, 1.0, None]
    assert [row["scores"]["r"] for row in rows] == [4.0, 0.0, 3.0]
    pool = Pool(tmp_path)
    assert [(pool[i].ids, pool[i].mask) for i in range(3)] == [
        ([5 + p, 40 + i], [False, True]) for p, i in ((0, 1), (1, 7), (2, 8))
    ]
    assert said["sets"]["v"] == {"rows": 3, "tokens": 6, "trained_tokens": 3, "dropped": {}}


def test_without_rewards_verifiers_choose_and_wrong_prompts_are_left_out(tmp_path: Path) -> None:
    said, rows = write(answered(SCORES[:2], [VERIFIED[0], [NAN, NAN, NAN, 0.0]], rewards=False), tmp_path)
    assert [row["best"] for row in rows] == [0] and said["sets"]["v"]["dropped"] == {"no answer was right": 1}
    (left_out,) = map(json.loads, (tmp_path / "left_out.jsonl").read_text().splitlines())
    assert left_out["prompt"][0]["content"] == "1" and left_out["reason"] == "no answer was right"
    with pytest.raises(UserError, match=r"no prompt has a best answer \(v: longer than max_length 2\)"):
        write(answered(SCORES[:2], VERIFIED[:2]), tmp_path, max_length=1)
    with pytest.raises(UserError, match=r"v: no answer ended 1"):
        write(answered([[NAN] * 4], [[NAN] * 4]), tmp_path)


def test_the_curve_is_a_mean_over_groups_of_answers() -> None:
    scores = np.array(SCORES)
    found = curve(answered(SCORES, VERIFIED), scores)
    assert [row["n"] for row in found] == [1, 2, 4] and {row["of"] for row in found} == {2}
    # Prompt 0, by 1: right, wrong, no answer, right; by 2: 4.0 is wrong, 2.0 right; by 4: 4.0. Prompt 1: a quarter, a half, 1.
    assert [row["verified"] for row in found] == pytest.approx([(0.5 + 0.25) / 2, (0.5 + 0.5) / 2, (0 + 1) / 2])
    assert found[0]["stderr"] == pytest.approx(abs(0.5 - 0.25) / 2)
    # scores: prompt 0: 7/3, 3, 4; prompt 1: 0; prompt 2: 7/4, 5/2, 3
    assert [row["score"] for row in found] == pytest.approx([(7 / 3 + 7 / 4) / 3, (3 + 5 / 2) / 3, 7 / 3])


def test_three_answers_are_divided_into_whole_groups() -> None:
    scores = [row[:3] for row in SCORES[::2]]
    found = curve(answered(scores, [[1.0, 0.0, NAN], [0.0, 0.0, 1.0]]), np.array(scores))
    assert [row["n"] for row in found] == [1, 2, 3]
    assert found[1]["verified"] == pytest.approx((0 + 0) / 2)  # the first two answers only: 4.0 and 3.0, both wrong
