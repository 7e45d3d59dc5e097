"""Problems with programs: run exactly, annotated, asked again with other numbers, and never an evaluation's own."""

from __future__ import annotations

import json
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.config.sources import Programs, SyntheticSource
from lehr.data.damage import Damaged
from lehr.data.synthetic import documents, problem
from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.interpreter import Operation, Program, Unrunnable, written
from lehr.data.synthetic.problems import FAMILIES, key_of, pool
from lehr.data.synthetic.programmed import rendering
from lehr.data.synthetic.seeds import Seed, seeds
from lehr.data.synthetic.substitution import Variant, leaked, places, substituted, unnatural
from lehr.evals.contamination import question_index
from lehr.runtime.errors import UserError
from lehr.stages.documents import described_source

TINYGSM = '''def simple_math_problem() -> float:
    """
    Ann buys 4 bags of 12 pears, eats 9, and sells each of the others for 0.25 dollars.
    """
    bought = 4 * 12  # not a comment that counts
    left = bought - 9
    result = left * 0.25
    return result
'''
ASKED = "Ann buys 4 bags of 12 pears, eats 9, and sells each of the others for 0.25 dollars. How many dollars does she get?"


def source(tmp_path: Path, rows: list[Any], count: int = 5, **keys: Any) -> SyntheticSource:
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return SyntheticSource(kind="synthetic", generator="programs", documents=count, programs=Programs(path=str(path), **keys))


def seed(question: str, program: str, *keep: int) -> Seed:
    return Seed("s", question, Program.of(program), frozenset(map(Fraction, keep)))


def test_a_program_is_run_exactly() -> None:
    steps = Program.of(TINYGSM).run()
    assert [(s.name, written(s.value)) for s in steps] == [("bought", "48"), ("left", "39"), ("result", "9.75")]
    assert steps[1].operations == [Operation(Fraction(48), "-", Fraction(9), Fraction(39))]
    tenths = Program.of("a = 0.1 + 0.2\nb = a * 10 // 1 + 7 % 4 + 2 ** 3 + round(2.5) + max(1, int(3.9), abs(-2))").run()
    assert [written(s.value) for s in tenths] == ["0.3", str(3 + 3 + 8 + 2 + 3)]
    assert written(Fraction(1, 3)) is None and written(Fraction(-1, 8)) == "-0.125" and written(Fraction(5, 100)) == "0.05"


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(-99, 99)), min_size=1, max_size=8))
def test_values_are_pythons_own(parts: list[tuple[str, int]]) -> None:
    text = "7" + "".join(f" {sign} ({number})" for sign, number in parts)
    assert Program.of(f"x = {text}").run()[-1].value == eval(text)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = y + 1", "a name without a value"), ("x = 1 / 0", "a division by zero"), ("x = 9 ** 9 ** 9", "no small whole"),
        ("x = 10 ** 12 * 10 ** 12", "too large"), ("import os", "no assignment"), ("x = __import__('os')", "no arithmetic"),
        ("x = [1, 2]", "no arithmetic"), ("while True:\n    x = 1", "no assignment"), ("x = 'a' * 9", "no number"),
        ("x = True", "no number"), ("def f():\n    x = 1", "returns nothing"), ("x = = 1", "no Python"), ("", "no assignment"),
        ("x = " + "(" * 5000 + "1" + ")" * 5000, "no Python"), ("x = " + "-" * 300 + "1", "too deep"),
        ("x = 1\x0cy = 2", "line ends"), ("a, b = 1, 2", "no assignment"), ("x = 1e999", "too large"), ("x = max(1)", "max wi"),
        ("x += 1", "no assignment"), ("x = 1\nprint(x)", "assignment"), ("x = 1 < 2", "arithmetic"), ("x = \ud800", "Python"),
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_is_not_run(source: str, why: str) -> None:
    with pytest.raises(Unrunnable, match=why):
        Program.of(source).run()


def test_values_stand_behind_each_assignment_and_calculations_in_a_text() -> None:
    found = Variant(ASKED, TINYGSM, Program.of(TINYGSM).run())
    code = "bought = 4 * 12  # 48\nleft = bought - 9  # 39\nresult = left * 0.25  # 9.75"
    assert rendering(found, "annotated") == f"Question: {ASKED}\n{code}\nAnswer: 9.75"
    told = "Bought: 4 * 12 = 48. Left: 48 - 9 = 39. Result: 39 * 0.25 = 9.75. The answer is 9.75."
    assert rendering(found, "steps") == f"Question: {ASKED}\nAnswer: {told}"
    assert rendering(found, "answer") == f"Question: {ASKED}\nAnswer: 9.75"


def test_numbers_are_replaced_in_question_and_program_alike() -> None:
    original, refused, seen = seed(ASKED, TINYGSM), Counter[str](), set[int]()
    for number in range(200):
        found = substituted(original, Draw(1, number), refused, seen)
        assert found is not None
        seen.add(found.number)
        bags, pears, eaten, price = (Fraction(n) for n in re.findall(r"\d+(?:\.\d+)?", found.question))
        assert found.answer == (bags * pears - eaten) * price and found.answer > 0
        assert (found.answer * 100).denominator == 1  # dollars have cents
        assert all(step.value.denominator == 1 for step in found.steps[:2])  # pears are whole
        assert 2 <= bags <= 8 and 6 <= pears <= 24 and not leaked([o for s in found.steps for o in s.operations])
        assert Program.of(found.source).run() == found.steps
    assert len(seen) == 200 and refused["a problem of an evaluation"] > 0


@pytest.mark.parametrize(
    ("question", "program", "replaced"),
    [
        ("He has 12 pens and 12 caps.", "x = 12 + 3", [12]),  # both of them, as the program has one
        ("He has 12 pens.", "x = 12 + 12", []),  # which of the program's is it?
        ("He works 7 days in 3 weeks for 60 coins.", "x = 7 * 3 * 60", [3, 60]),  # a week has 7 days
        ("It costs 100 dollars at 20% off.", "x = 100 * 20 / 100", [20]),
        ("On the 2nd at 10:30 he saw 3/4 of 8kg, 15 birds and 1,200 ants.", "x = 2 + 10 + 3 + 4 + 8 + 15 + 1200", [15, 1200]),
        ("He has 0 pens, 1 cap and 5 hats.", "x = 0 + 1 + 5", [5]),
    ],
)  # fmt: skip
def test_only_numbers_of_which_it_is_known_what_they_are_are_replaced(question: str, program: str, replaced: list[int]) -> None:
    assert [int(place.value) for place in places(question, Program.of(program))] == replaced
    assert places(question, Program.of(program), [Fraction(n) for n in replaced]) == []


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("x = 3 - 9", "negative"), ("x = 7 / 2", "a fraction of what was whole"), ("x = 6 - 6", "nothing left"),
        ("x = 99999 * 9", "too large"), ("x = 8 / 2", ""),
    ],
)  # fmt: skip
def test_unnatural_results_are_refused(program: str, why: str) -> None:
    assert unnatural(Program.of(program).run(), Program.of("x = 9 / 3").run()) == why
    cents, more = Program.of("x = 3 * 0.25").run(), Program.of("x = 3 * 0.125").run()
    assert unnatural(more, cents) == "more decimals" and unnatural(cents, more) == ""


def test_no_dev_or_held_out_problem_is_calculated_in_a_training_text(tmp_path: Path) -> None:
    """Read back from the texts alone, whatever the generator believes."""
    kept = {problem(f, s, i, 1).key for f in FAMILIES for s in ("dev", "held_out") for i in range(len(pool(f, s)))}  # type: ignore[arg-type]
    built_in = SyntheticSource(kind="synthetic", generator="programs", documents=300, programs=Programs(styles=["steps"]))
    rows = [{"question": f"{a} and {b}?", "program": f"x = {a} + {b}"} for a in range(30, 60) for b in range(60, 80)]
    own = source(tmp_path, rows, 200, numbers="own", styles=["steps"])
    bare = SyntheticSource(kind="synthetic", generator="calculations", documents=1000)
    seen = set[str]()
    for name, config in (("programs", built_in), ("programs", own), ("calculations", bare)):
        for document in documents(name, config, 7):
            for a, sign, b, value in re.findall(r"(?<![\d.+*/-] )\b(\d+) ([-+]) (\d+) = (\d+)", document.text):
                assert int(value) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
                if max(int(a), int(b)) < 100:
                    seen.add(key_of("add" if sign == "+" else "subtract", int(a), int(b)))
    assert len(seen) > 600 and not seen & kept


def test_calculations_are_right() -> None:
    found = list(documents("calculations", SyntheticSource(kind="synthetic", generator="calculations", documents=300), 3))
    signs = Counter[str]()
    for question, a, sign, b, value in re.findall(
        r"Question: (.+)\nAnswer: (\d+) ([-+*/]) (\d+) = (\d+)", "".join(d.text for d in found)
    ):
        assert a in question and b in question and Fraction(value) == eval(f"Fraction({a}) {sign} {b}")
        signs[sign] += 1
    assert set(signs) == set("+-*/") and min(signs.values()) > 400


def test_documents_are_a_function_of_the_seed_and_of_the_rows(tmp_path: Path) -> None:
    config = source(tmp_path, [{"question": ASKED, "program": TINYGSM, "answer": "#### 9.75"}], 30)
    first, second, other = (list(documents("programs", config, n)) for n in (7, 7, 8))
    assert first == second != other and len(first) == 30 == len({d.id for d in first})
    asked = [line for d in first for line in d.text.splitlines() if line.startswith("Question")]
    assert len(asked) == len(set(asked)) and 90 <= len(asked) <= 180


def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        {"question": "a 5?", "program": "x = 5 * 4"}, {"question": "b 5?", "program": "import os\nx = 5"},
        {"question": "c 5?", "program": "x = 5 * 4", "answer": 21}, {"question": "d", "programs": ["x = 1", "x = 2", "x = 1"]},
        {"question": "e 5?", "programs": ["x = 1", "x = 2"]}, {"question": "f", "programs": ["x = 1"] * 2},
    ]  # fmt: skip
    refused = Counter[str]()
    config = source(tmp_path, rows)
    assert config.programs is not None
    found = list(seeds(config.programs, refused))
    assert [s.question[0] for s in found] == ["a", "d", "f"] and found[1].program.source == "x = 1"
    assert refused == {
        "a statement that is no assignment": 1, "another answer than the row's": 1, "no majority among the programs": 1,
    }  # fmt: skip
    few = Counter[str]()
    assert [s.question[0] for s in seeds(config.programs.model_copy(update={"majority_of": 3}), few)] == ["d"]
    assert few["fewer programs than majority_of"] == 5
    notes = list[str]()
    texts = [d.text for d in documents("programs", config.model_copy(update={"documents": 9}), 1, note=notes.append)]
    assert texts and "problems refused: 1 a statement that is no assignment" in notes[0]


def test_damaged_rows_stop_or_are_counted(tmp_path: Path) -> None:
    config = source(tmp_path, [{"question": "a 5?", "program": "x = 5 * 4"}, {"question": "b"}, {"program": "x = 1"}])
    with pytest.raises(Damaged, match=r"seeds\.jsonl:2: no `question` with a `program`"):
        list(documents("programs", config, 1))
    assert config.programs is not None
    refused = Counter[str]()
    dropping = config.programs.model_copy(update={"bad_rows": "drop"})
    assert len(list(seeds(dropping, refused))) == 1 and refused == {"no question with a program": 2}
    nothing = source(tmp_path, [{"question": "b", "program": "import os"}])
    with pytest.raises(UserError, match=r"no problem with a program can be used: a statement that is no assignment 1"):
        list(documents("programs", nothing, 1))
    with pytest.raises(ValueError, match="the generator arithmetic has none"):
        SyntheticSource(kind="synthetic", generator="arithmetic", documents=1, programs=Programs())


def test_an_evaluations_question_is_refused_whatever_its_numbers() -> None:
    """A variant of it would teach how it is solved; the built-in problems share wordings with training on purpose."""
    shared = "Tom has 3 pens and gives 2 of them to Ann, who has 4."
    known = question_index({"gsm": [f"Question: {ASKED}\nAnswer: 9.75"], "word_problems": [shared]})
    assert known(ASKED) and known(ASKED.replace("12", "17").replace("0.25", "1.50"))
    assert not known("Ben has 17 boats and 4 sails for each of them. How many sails has he got in all of his boats?")
    assert not known(shared)


def test_problems_count_by_their_content(tmp_path: Path) -> None:
    """In the fingerprint of documents, wherever their file lies."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (source(tmp_path / name, [{"question": ASKED, "program": TINYGSM}]) for name in "ab")
    assert described_source("math", one) == described_source("math", other)
    changed = source(tmp_path / "b", [{"question": ASKED, "program": TINYGSM, "id": "x"}])
    assert described_source("math", one) != described_source("math", changed)
    (tmp_path / "b" / "seeds.jsonl").unlink()
    with pytest.raises(UserError, match=r"seeds\.jsonl: there is no such file. Correct the source's programs\.path"):
        described_source("math", changed)
