"""Tests of a program that a model wrote: its last block of code is run in the sandbox (lehr.post.verifiers.sandbox)."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from lehr.post.verifiers.arguments import Args, Arguments
from lehr.post.verifiers.sandbox import Limits, Program, check_machine, run

_BLOCK = re.compile(r"^```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE)
_SECONDS = 5.0
_MOST_PROGRAM_CHARACTERS = 100_000
# The tests come by standard input, which is read and shut before the program's first line runs. The last line printed
# proves that every test was reached: a program that ends the process early, however it does that, prints none.
_HARNESS = """
import json, os, sys
def main():
    tests, word = json.loads(sys.stdin.read())
    sys.stdin = open(os.devnull)
    say = os.write
    with open("answer.py", encoding="utf-8") as file:
        source = file.read()
    names = {"__name__": "__main__"}
    exec(compile(source, "answer.py", "exec"), names)
    for test in tests:
        exec(compile(test, "test", "exec"), names)
    say(1, ("\\n" + word).encode())
main()
"""


def block(text: str) -> str:
    """The last fenced block of Python (or of no language) in a text; "" if there is none."""
    found = _BLOCK.findall(text)
    return found[-1] if found else ""


def code_tests(args: Args, text: str) -> bool:
    """The program in the response passes all `tests` (Python statements, run after it) and, run anew for each of the `cases`,
    writes the `output` for the `input`. Raises UserError where the sandbox cannot be had."""
    source = block(text)
    if not source or len(source) > _MOST_PROGRAM_CHARACTERS or "\0" in source:
        return False
    seconds = args.get("seconds", _SECONDS)
    limits = replace(Limits(), wall_s=seconds, cpu_s=max(int(seconds), 1))
    tests = args.get("tests", [])
    return (not tests or _passes(source, tests, limits)) and all(_gives(source, case, limits) for case in args.get("cases", []))


def _passes(source: str, tests: list[str], limits: Limits) -> bool:
    word = secrets.token_hex(16)
    files = {"harness.py": _HARNESS, "answer.py": source}
    outcome = run(Program(files, json.dumps([tests, word]), limits))
    return not outcome.why and outcome.code == 0 and outcome.output.endswith(f"\n{word}")


def _gives(source: str, case: dict[str, str], limits: Limits) -> bool:
    """Outputs are compared line by line, without white space at the ends of lines and of the whole."""
    outcome = run(Program({"answer.py": source}, case["input"], limits))
    return not outcome.why and outcome.code == 0 and _lines(outcome.output) == _lines(case["output"])


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


class Case(Arguments):
    input: str
    output: str


class Tests(Arguments):
    tests: list[str] = []
    cases: list[Case] = []
    seconds: Annotated[float, Field(gt=0, le=60)] = _SECONDS  # of wall time, for all tests and for each case

    @model_validator(mode="after")
    def _can_run(self) -> Tests:
        if not self.tests and not self.cases:
            raise ValueError("there are neither tests nor cases")
        for test in self.tests:
            _compiled(test)
        check_machine("code_tests")
        return self


def _compiled(test: str) -> Any:
    try:
        return compile(test, "test", "exec")
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"a test is not Python: {error}") from error
