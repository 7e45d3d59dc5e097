"""Equality of mathematical expressions, by the library math-verify (sympy), in a process that is ended when it takes
too long."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from lehr.post.served import equal, has_expression, ready_for_mathematics
from lehr.post.verifiers.arguments import Args, Arguments, Text, need
from lehr.post.verifiers.worker import Worker

_SECONDS = 5.0  # for one response
_MOST_CHARACTERS = 20_000  # the end of a response is looked at
_WORKER = Worker("math-verify", ("math_verify", "latex2sympy2_extended", "sympy", "mpmath", "antlr4"), ready_for_mathematics)


def math_equal(args: Args, text: str) -> bool:
    """The response's last expression, `\\boxed{}` before others, equals `answer` (LaTeX or plain): 1/2 is 0.5 and
    \\frac{1}{2}."""
    return _WORKER.ask(equal, [args["answer"], text[-_MOST_CHARACTERS:]], _SECONDS) is True


class Mathematics(Arguments):
    """`answer`: an expression that math-verify can read; LaTeX with or without dollars."""

    answer: Text

    @model_validator(mode="after")
    def _is_read(self) -> Mathematics:
        need("math_equal", "math_verify")
        if not _readable(self.answer):
            raise ValueError("math-verify finds no expression in it")
        return self


def _readable(answer: str) -> Any:
    return _WORKER.ask(has_expression, [answer], _SECONDS)
