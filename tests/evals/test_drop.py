"""DROP's exact match and F1 of answers of several spans: held to a plain computation over all alignments, and to lm-eval's."""

from __future__ import annotations

import json
import os
import random
import re
import string
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lehr.evals import drop
from lehr.evals.answers import judged
from lehr.evals.score import score
from lehr.evals.suites import check_task
from lehr.evals.task import Asked
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.test_lm_eval import LM_EVAL
from tests.evals.test_own import found, values, written

WORDS = ["the", "a", "oven", "Oven", "two", "2", "2.0", "1,200", "-5", "5", "third-rate", "lehr,", "(glass)", "3%", "nan"]
Answer = tuple[list[str], list[list[str]]]  # spans that were written, and the right answers


def drawn(number: int) -> list[Answer]:
    """Answers and right ones with words in common, blanks, articles alone, numbers, and up to five spans."""
    dice = random.Random(7)

    def several(most: int) -> list[str]:
        return [" ".join(dice.choices(WORDS, k=dice.randint(1, 4))) for _ in range(dice.randint(1, most))]

    found = [(several(5), [several(5) for _ in range(dice.randint(1, 3))]) for _ in range(number)]
    for ours, rights in found[::5]:  # the first right answer's spans, in another order and other letters
        ours[:] = [f"The {span.upper()}." for span in dice.sample(rights[0], len(rights[0]))]
    return found


def plainly(ours: list[str], right: list[str]) -> tuple[float, float]:
    """Exact match and F1 as the paper's script defines them, by trying every alignment."""

    def number(word: str) -> float | None:
        return float(word) if re.fullmatch(r"[+-]?\d+(\.\d*)?|nan", word) else None

    def words(span: str) -> list[str]:
        out = []
        for raw in re.split("[ -]", span.lower()):
            bare = raw if number(raw) is not None else "".join(c for c in raw if c not in string.punctuation)
            value = number(bare)
            if bare and bare not in ("a", "an", "the"):
                out.append(bare if value is None else repr(value))
        return out

    def alike(one: set[str], gold: set[str]) -> float:
        wanted = {w for w in gold if re.fullmatch(r"-?\d+\.\d+|nan", w)}
        if wanted and not wanted & one:
            return 0.0
        if not one or not gold:
            return float(one == gold)
        return 2 * len(one & gold) / (len(one) + len(gold))

    size = max(len(ours), len(right))
    rows = [[alike(set(words(a)), set(words(b))) for a in ours] + [0.0] * (size - len(ours)) for b in right]
    rows += [[0.0] * size] * (size - len(right))
    best = max(sum(rows[n][column] for n, column in enumerate(order)) for order in permutations(range(size)))
    same = {" ".join(words(a)) for a in ours} == {" ".join(words(b)) for b in right} and len(ours) == len(right)
    return float(same), best / size


def test_random_answers_score_as_over_all_alignments() -> None:
    partial = exact = 0
    for ours, rights in drawn(1500):
        for right in rights:
            same, f1 = plainly(ours, right)
            assert drop.exact_match(ours, right) == same, (ours, right)
            assert drop.f1(ours, right) == pytest.approx(f1, abs=0.005 + 1e-9), (ours, right)
            partial, exact = partial + (0 < f1 < 1), exact + (same == 1.0)
    assert partial > 1000 and exact > 100


@pytest.mark.skipif(not (LM_EVAL / "lm_eval").is_dir(), reason="run `make lm-eval`")
def test_random_answers_score_as_lm_evals_drop_task_does(tmp_path: Path) -> None:
    """To the last digit: its functions on the same spans, and its whole scorer, which takes an answer as one span."""
    given = drawn(1500)
    (tmp_path / "given.json").write_text(json.dumps(given))
    script = """
import json, runpy, sys
theirs = runpy.run_path(sys.argv[1])
rows = json.load(open(sys.argv[2]))
of_all = [theirs["process_results"]({"answers": right}, [ours[0]]) for ours, right in rows]
each = [[theirs["get_metrics"](ours, one) for one in right] for ours, right in rows]
print(json.dumps([[[float(v["em"]), float(v["f1"])] for v in of_all], [[[float(x) for x in m] for m in row] for row in each]]))
"""
    utils = str(LM_EVAL / "lm_eval" / "tasks" / "drop" / "utils.py")
    done = subprocess.run(
        [sys.executable, "-c", script, utils, str(tmp_path / "given.json")],
        env={**os.environ, "PYTHONPATH": str(LM_EVAL), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    of_all, each = json.loads(done.stdout)
    for (ours, rights), theirs, one_by_one in zip(given, of_all, each, strict=True):
        args = {"normalise": "drop", "answers": rights}
        assert [judged("exact_match", args, ours[0]), judged("f1", args, ours[0])] == theirs, (ours[0], rights)
        assert [[drop.exact_match(ours, right), drop.f1(ours, right)] for right in rights] == one_by_one, (ours, rights)


def test_an_answer_of_very_many_spans_is_judged_at_once() -> None:
    ours = drop.spans("x, " * 4000 + "b, a", ", ")
    assert len(ours) == 4002 and drop.f1(ours, ["a", "b"]) == 0.0 and drop.f1(["a", "b"], ["b", "a"]) == 1.0
    assert drop.spans(" , ,", ",") == [""] and drop.spans("1,200, 900", ", ") == ["1,200", "900"]
    assert drop.spans("a, b", "") == ["a, b"]


ROW = {"q": "Which?", "answers": [["the oldest", "the second"], "none"]}
SAID: dict[str, Any] = {
    "kind": "generation", "data": "rows.jsonl.gz", "split": "dev", "prompt": "{{ q }}=", "target": "answers",
    "stop": ["\n"], "max_tokens": 40,
    "metrics": {"f1": {"normalise": "drop", "separator": ", "}, "exact_match": {"normalise": "drop", "separator": ", "}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "f1", "exact"),
    [
        (" second, oldest\n", 1.0, 1.0), (" second, oldest, small\n", 0.67, 0.0), (" the second\n", 0.5, 0.0),
        (" None.\n", 1.0, 1.0), ("$", 0.0, 0.0), (" second oldest\n", 0.33, 0.0),
    ],
)  # fmt: skip
def test_a_task_judges_by_its_best_right_answer(answer: str, f1: float, exact: float, tmp_path: Path) -> None:
    task = written(tmp_path, SAID, [ROW])
    model = TableModel(lambda ids, token: 0.5, lambda prompt, t: answer, max_length=200)
    assert values(score(model, "m", "mine", "dev", found(task), 1)) == {"f1": f1, "exact_match": exact}


def test_a_solved_example_shows_the_spans_of_its_first_right_answer(tmp_path: Path) -> None:
    rows = [ROW, {"q": "How many?", "answers": [5, "five"]}]
    asked = [e for e in found(written(tmp_path, {**SAID, "shots": {"number": 1}}, rows)) if isinstance(e, Asked)]
    assert [e.prompt for e in asked] == ["How many?= 5\n\nWhich?=", "Which?= the oldest, the second\n\nHow many?="]
    assert asked[0].checks[0] == ("f1", {"normalise": "drop", "separator": ", ", "answers": ROW["answers"]})


@pytest.mark.parametrize(
    ("metrics", "answers", "message"),
    [
        ({"f1": {"normalise": "drop"}}, [[]], r"gz:1: target: it is empty"),
        ({"f1": {"normalise": "drop"}}, [], r"gz:1: target: it is empty"),
        ({"f1": {"normalise": "drop"}}, [["a", " "]], r"gz:1: target: it is empty"),
        ({"f1": {"normalise": "drop"}}, [["a", ["b"]]], r"gz:1: target: it is a list of 1, not a text"),
        ({"f1": {}}, [["a", "b"]], r"gz:1: target: a right answer of several spans, .* `normalise: drop` alone"),
        ({"f1": {"normalise": "drop"}, "exact_match": {}}, [["a", "b"]], r"metrics\.exact_match\.answers: \['a', 'b'\] is no"),
        ({"f1": {"separator": ","}}, ["a"], r"metrics\.f1\.separator: .*`normalise: drop` has alone"),
        ({"f1": {"normalise": "drop", "separator": ""}}, ["a"], r"metrics\.f1\.separator: it is the text between"),
        ({"exact_match": {"normalise": "drop", "ignore_case": True}}, ["a"], r"ignore_case: `normalise: drop` has rules"),
        ({"f1": {"normalise": "drop", "answers": "number"}}, ["a"], r"metrics\.f1\.answers: 5 is no list of right answers"),
        ({"f1": {"normalise": "drop", "answers": "pairs"}}, ["a"], r"metrics\.f1\.answers: \[\] is no right answer"),
    ],
)  # fmt: skip
def test_wrong_spans_are_named_with_their_row(
    metrics: dict[str, Any], answers: list[Any], message: str, tmp_path: Path
) -> None:
    task = written(tmp_path, {**SAID, "metrics": metrics}, [{"q": "?", "answers": answers, "pairs": [[]], "number": 5}])
    with pytest.raises(UserError, match=message) as raised:
        check_task(task, "--tasks")
    assert raised.value.remedy and raised.value.exit_code == 2
