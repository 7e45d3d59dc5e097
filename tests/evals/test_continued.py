"""Programs that a model continues, as HumanEval has them, and texts that are programs, as MBPP has them: prompt, what was
written and tests are run together in the sandbox."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.evals import own
from lehr.evals.score import score
from lehr.evals.suites import check_task
from lehr.evals.task import Asked
from lehr.post.verifiers import check_args, programs, verify
from lehr.post.verifiers.sandbox import refusal
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.test_own import found, values, written

pytestmark = pytest.mark.skipif(bool(refusal()), reason=f"this machine refuses a sandbox: {refusal()}")

PROMPT = 'from typing import List\n\n\ndef doubled(xs: List[int]) -> List[int]:\n    """ Each number twice.\n    """\n'
CHECK = "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n    assert candidate([]) == []\n"
ROW = {"prompt": PROMPT, "test": CHECK, "entry_point": "doubled"}
RIGHT = "    return [2 * x for x in xs]\n"
SAID: dict[str, Any] = {
    "kind": "generation", "data": "rows.jsonl.gz", "split": "dev", "prompt": "prompt", "max_tokens": 400,
    "stop": ["\nclass", "\ndef", "\n#", "\nif", "\nprint"],
    "metrics": {"code_tests": {"continues": "prompt", "tests": "{{ test }}\ncheck({{ entry_point }})", "seconds": 2}},
}  # fmt: skip
ARGS = {"continues": PROMPT, "tests": [f"{CHECK}\ncheck(doubled)"], "seconds": 2}


def test_a_task_of_given_functions_scores_what_is_written_behind_them(tmp_path: Path) -> None:
    """Blanks at its beginning count, what comes after a stop string does not; pass@k is over the samples."""
    task = written(tmp_path, {**SAID, "temperature": 0.8, "samples": 4, "pass_at": [1, 2]}, [ROW, ROW])
    asked = found(task)
    assert isinstance(asked[0], Asked) and asked[0].prompt == PROMPT and asked[0].checks == (("code_tests", ARGS),)
    told = iter([RIGHT + "\ndef more(:\n", "    return xs\n", RIGHT.lstrip(), "    return xs + xs\n"] * 2)
    model = TableModel(lambda ids, token: 0.5, lambda prompt, t: next(told), max_length=1000)
    assert values(score(model, "m", "mine", "dev", asked, 1)) == {"code_tests": 0.25, "pass@1": 0.25, "pass@2": 0.5}


@pytest.mark.parametrize(
    ("completion", "passes"),
    [
        (RIGHT, True),
        ("    print('x' * 200_000)\n" + RIGHT, True),  # as the authors' script, which swallows what is printed
        ("    import os\n    os.write(1, b'x' * 200_000)\n" + RIGHT, True),
        (RIGHT + "\ncheck = lambda candidate: None\n", True),  # the tests come later, and define their own
        ("    return 1\n\ncheck = lambda candidate: None\n", False),
        ("    return 1\nimport builtins\nbuiltins.exec = lambda *a: None\n", False),
        ("    return 1\nimport builtins\nbuiltins.compile = lambda *a: 'pass'\n", False),
        ("    while True:\n        pass\n", False),
        ("    import no_such_module\n" + RIGHT, False),
        ("    raise SystemExit(0)\n", False),
        ("    import os\n    os._exit(0)\n", False),
        ('    """ open', False),
        (f"```python\n{PROMPT}{RIGHT}```", False),  # a fence is no Python
        ("", False),
    ],
)
def test_prompt_completion_and_tests_are_one_program(completion: str, passes: bool) -> None:
    check_args("code_tests", ARGS)
    assert verify("code_tests", ARGS, completion, True) == float(passes)


def test_it_is_judged_as_the_plain_concatenation_would_be() -> None:
    """Chen et al. 2021: prompt + completion + tests + a call of check, in one exec, of completions that end by themselves."""
    for completion in (
        RIGHT,
        RIGHT.lstrip(),
        "    return xs * 2\n",
        "    return list(map(lambda x: x + x, xs))",
        "    retrun xs",
    ):
        try:
            exec(f"{PROMPT}{completion}\n{CHECK}\ncheck(doubled)", {})
            passes = True
        except (AssertionError, SyntaxError):
            passes = False
        assert verify("code_tests", ARGS, completion, True) == float(passes), completion


def test_a_text_may_be_a_program_from_its_first_character(tmp_path: Path) -> None:
    """MBPP: three asserts of the row, an answer up to [DONE], or between its marks."""
    row = {"text": "Square a number.", "tests": ["assert sq(2) == 4", "assert sq(-3) == 9", "assert sq(0) == 0"]}
    said = {
        **SAID,
        "prompt": "{{ text }}\n[BEGIN]\n",
        "stop": ["[DONE]"],
        "metrics": {"code_tests": {"continues": "", "tests": "tests"}},
    }
    good = "def sq(x):\n    return x * x\n"
    for answer, steps, passes in (
        (f"{good}[DONE] and more", [], True),
        (f"Sure!\n{good}[DONE]", [], False),
        (f"Sure!\n[BEGIN]\n{good}[DONE]", [{"do": "regex", "pattern": r"(?s)\[BEGIN\](.*)"}], True),
        ("def sq(x):\n    return x + x\n[DONE]", [], False),
    ):
        task = written(tmp_path, {**said, "extract": {"program": steps}} if steps else said, [row])
        model = TableModel(lambda ids, token: 0.5, lambda prompt, t, a=answer: a, max_length=400)  # type: ignore[misc]
        assert [*values(score(model, "m", "mine", "dev", found(task), 1)).values()] == [float(passes)], answer


@pytest.mark.parametrize(
    ("args", "row", "message"),
    [
        ({"continues": "promt"}, {}, r"gz:1: metrics\.code_tests\.continues: no field `promt` in this row; it has prompt"),
        ({"tests": "tset"}, {}, r"gz:1: metrics\.code_tests\.tests: no field `tset`"),
        ({}, {"prompt": "Write a function that doubles.\n"}, r"no Python program begins with it \(invalid syntax, line 1\)"),
        ({}, {"prompt": "def doubled(:\n"}, r"no Python program begins with it"),
        ({}, {"prompt": "\ud800\n"}, r"no Python program begins with it"),
        ({}, {"prompt": 5}, r"prompt: it is a number, not a text"),
        ({"continues": "entry"}, {"entry": 5}, r"argument continues: Input should be a valid string"),
        ({"tests": "test"}, {}, r"the tests define names and run nothing.*check\(add\)"),
        ({"tests": "{{ listed }}"}, {"listed": ["assert doubled([]) == 0"]}, r"the tests define names and run nothing"),
        ({"tests": "test"}, {"test": ""}, r"the tests define names and run nothing"),
        ({"tests": ["assert 1", "assert ("]}, {}, r"a test is not Python"),
    ],
)
def test_what_cannot_be_run_is_named_with_its_row(
    args: dict[str, Any], row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    said = {**SAID, "metrics": {"code_tests": {**SAID["metrics"]["code_tests"], **args}}}
    task = written(tmp_path, said, [{**ROW, **row}])
    with pytest.raises(UserError, match=message) as raised:
        check_task(task, "--tasks")
    assert raised.value.remedy and raised.value.exit_code == 2


def test_every_part_of_a_program_that_begins_it_is_taken() -> None:
    """This file and the sandbox's own, cut after each tenth character, and what could only end in an error."""
    for path in (Path(__file__), Path(programs.__file__)):
        source = path.read_text(encoding="utf-8")
        ast.parse(source)
        assert not [n for n in range(0, len(source), 10) if programs._no_beginning(source[:n])]
    for wrong in ("x = 'a\n", "  x = 1\n", "def f(x):\n  a\n    b\n", "for\n", "x = (1]\n"):
        assert programs._no_beginning(wrong) and not programs._no_beginning(wrong.removesuffix("\n"))


def test_a_task_without_these_arguments_is_the_one_it_was(tmp_path: Path) -> None:
    """Its identity is the one that the version before them computed."""
    (tmp_path / "rows.jsonl").write_text('{"q": "x", "a": "5"}\n{"q": "y", "a": "9"}\n')
    said = {"kind": "generation", "data": "rows.jsonl", "prompt": "q", "target": "a"}
    metrics: dict[str, Any] = {"f1": {"normalise": "drop"}, "code_tests": {"tests": ["assert f(2) == 4"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**said, "metrics": metrics}))
    assert own.identity(str(tmp_path / "mine.yaml")) == "mine@ad765b30eb77031e"
    metrics["code_tests"]["continues"] = ""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**said, "metrics": metrics}))
    assert own.identity(str(tmp_path / "mine.yaml")) != "mine@ad765b30eb77031e"
