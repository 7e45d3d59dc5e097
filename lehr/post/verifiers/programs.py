"""Tests of a program that a model wrote, run in the sandbox (lehr.post.verifiers.sandbox): its last block of code, or what it
wrote as the continuation of a given program (Chen et al. 2021)."""

from __future__ import annotations

import ast
import json
import re
import secrets
import warnings
from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from lehr.post.verifiers.arguments import Args, Arguments
from lehr.post.verifiers.sandbox import Limits, Program, check_machine, run

_BLOCK = re.compile(r"^```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE)
_SECONDS = 5.0
_MOST_PROGRAM_CHARACTERS = 100_000
# The tests come by standard input, which is read and shut before the program's first line runs. The last line printed
# proves that every test was reached: a program that ends the process early, however it does that, prints none. What the
# program itself prints goes nowhere, since tests look at values (Chen et al. 2021's own script swallows it too). Names are
# bound before the program can put others in their place.
_HARNESS = """
import json, os, sys
def main(compile=compile, exec=exec, say=os.write):
    tests, word = json.loads(sys.stdin.read())
    sys.stdin = open(os.devnull)
    out, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    with open("answer.py", encoding="utf-8") as file:
        source = file.read()
    names = {"__name__": "__main__"}
    exec(compile(source, "answer.py", "exec"), names)
    for test in tests:
        exec(compile(test, "test", "exec"), names)
    say(out, ("\\n" + word).encode())
main()
"""


def block(text: str) -> str:
    """The last fenced block of Python (or of no language) in a text; "" if there is none."""
    found = _BLOCK.findall(text)
    return found[-1] if found else ""


def code_tests(args: Args, text: str) -> bool:
    """The program in the response passes all `tests` (Python statements, run after it) and, run anew for each of the `cases`,
    writes the `output` for the `input`. It is the last block of code; where there is `continues`, that and the whole response
    behind it, as they stand. Raises UserError where the sandbox cannot be had."""
    source = block(text) if args.get("continues") is None else args["continues"] + text
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
    continues: str | None = None  # the beginning of a program; "": the response is a program from its first character

    @model_validator(mode="after")
    def _can_run(self) -> Tests:
        if not self.tests and not self.cases:
            raise ValueError("there are neither tests nor cases")
        parsed = [_parsed(test) for test in self.tests]
        if parsed and all(map(_is_idle, parsed)):
            raise ValueError("the tests define names and run nothing, so that all pass; add a call, such as check(add)")
        if why := _no_beginning(self.continues or ""):
            raise ValueError(f"continues: no Python program begins with it ({why})")
        check_machine("code_tests")
        return self


def _parsed(test: str) -> ast.Module:
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(test, "test", "exec")  # finds more than ast alone, such as a `return` outside of functions
            return ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"a test is not Python: {error}") from error


def _is_idle(test: ast.Module) -> bool:
    """Whether nothing in a test can fail whatever the program is: it has definitions, imports and values alone."""
    return all(isinstance(s, _DEFINITIONS) or (isinstance(s, _VALUES) and _is_literal(s.value)) for s in test.body)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Pass)
_VALUES = (ast.Expr, ast.Assign)


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


# As the standard library's codeop tells what is unfinished from what is wrong: flags of CPython's compiler.
_UNFINISHED = 0x4000 | 0x200 | ast.PyCF_ONLY_AST  # PyCF_ALLOW_INCOMPLETE_INPUT, PyCF_DONT_IMPLY_DEDENT


def _no_beginning(source: str) -> str:
    """Why no program begins with the whole lines of `source`; "" if one may. A last line that has no end can become
    anything."""
    lines = source[: source.rfind("\n") + 1]
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(lines, "continues", "exec", _UNFINISHED, dont_inherit=True)
    except SyntaxError as error:
        open_text = "unterminated triple-quoted" in str(error)  # of an f-string, in Python 3.12
        return "" if open_text or "incomplete input" in str(error) else f"{error.msg}, line {error.lineno}"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return ""
