"""Bare calculations in many wordings, such as `77 * 14 = 1078`: the first part of OLMo 2's DolminoSynthMath (section 4.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from lehr.data.document import Document
from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.interpreter import Operation
from lehr.data.synthetic.splits import drawn
from lehr.data.synthetic.substitution import leaked
from lehr.data.synthetic.wording import ADD, SUBTRACT
from lehr.runtime.errors import Bug

MULTIPLY = (
    "What is {a} * {b}?", "Compute {a} * {b}.", "Calculate {a} times {b}.", "Multiply {a} by {b}.",
    "What is the product of {a} and {b}?", "{a} * {b} = ?", "How much is {a} times {b}?", "Find {a} * {b}.",
)  # fmt: skip
DIVIDE = (
    "What is {a} / {b}?", "Compute {a} / {b}.", "Calculate {a} divided by {b}.", "Divide {a} by {b}.",
    "What is the quotient of {a} and {b}?", "{a} / {b} = ?", "How often does {b} go into {a}?", "Find {a} / {b}.",
)  # fmt: skip
_FEWEST, _MOST = 6, 12  # calculations in a document
_DIGITS = {"+": (4, 4), "-": (4, 4), "*": (3, 2), "/": (2, 2)}  # at most so many of each number; of a quotient and a divisor
_WORDS = {"+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE}
_TRIES = 100


class Calculation(NamedTuple):
    """A question and its answer, as whole numbers."""

    question: str
    a: int
    sign: str
    b: int
    value: int


def calculation(draw: Draw) -> Calculation:
    """One that is no problem of the built-in evaluation tasks. Numbers of few digits are as likely as those of many."""
    for _ in range(_TRIES):
        sign = draw.choice(tuple(_DIGITS))
        a, b = (_number(draw, digits) for digits in _DIGITS[sign])
        if sign == "-":
            a, b = max(a, b), min(a, b)
        if sign == "/":
            b = max(1, b)
            a *= b
        value = a // b if sign == "/" else {"+": a + b, "-": a - b, "*": a * b}[sign]
        if not leaked([Operation(Fraction(a), sign, Fraction(b), Fraction(value))]):
            return Calculation(draw.choice(_WORDS[sign]).format(a=a, b=b), a, sign, b, value)
    raise Bug(f"{_TRIES} calculations in a row are problems of an evaluation")


def _number(draw: Draw, most_digits: int) -> int:
    digits = 1 + draw.below(most_digits)
    low = 0 if digits == 1 else 10 ** (digits - 1)
    return low + draw.below(10**digits - low)


def documents(count: int, seed: int) -> Iterator[Document]:
    """`count` documents of questions and answers."""
    for number in range(count):
        draw = drawn(seed, "calculations", number)
        found = [calculation(draw) for _ in range(_FEWEST + draw.below(_MOST - _FEWEST + 1))]
        text = "\n".join(f"Question: {c.question}\nAnswer: {c.a} {c.sign} {c.b} = {c.value}" for c in found)
        yield Document(id=f"calculations-{number:06d}", source="calculations", text=text + "\n")
