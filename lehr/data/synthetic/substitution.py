"""A word problem with other numbers: replaced in the question and in its program, which then gives the answer.

OLMo 2's DolminoSynthMath (section 4.4.1) consumes "a GSM8K training example" and replaces "all of its numbers in both the
provided question and answer". Here a number is replaced if it stands in the question and exactly once in the program, so that
it is known which of the program's numbers it is; others stay. What comes out must be as natural as the original: no fraction
of a thing that was counted in whole ones, nothing negative, no more decimals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from fractions import Fraction
from typing import NamedTuple

from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.interpreter import Operation, Program, Step, Unrunnable, operations_of
from lehr.data.synthetic.problems import is_digit_fact, key_of
from lehr.data.synthetic.seeds import Seed
from lehr.data.synthetic.splits import split_of
from lehr.runtime.seeds import derive

# Digits that are a number: not part of a word (2nd, 5kg), a time, a date, a fraction, a range or a version.
_NUMBER = re.compile(r"(?<![\w/:.,\-])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w/:\-]|[.,]\d)")
# Numbers that need not be those of the question where it has these words, as a week has 7 days.
_KNOWN = {
    2: "two|twice|double|half|halves|pair|pairs|both|couple", 3: "three|triple|thrice|third|thirds", 4: "four|quarter|quarters",
    5: "five", 6: "six", 7: "seven|week|weeks|weekly", 8: "eight", 9: "nine", 10: "ten|decade|decades",
    12: "twelve|dozen|dozens|month|months|monthly|year|years|foot|feet|inch|inches", 24: "day|days|daily|hour|hours",
    30: "thirty|month|months", 52: "week|weeks|weekly|year|years|yearly",
    60: "sixty|hour|hours|minute|minutes|second|seconds", 100: r"hundred|percent|cent|cents|dollar|dollars|century",
    365: "year|years|yearly", 1000: "thousand|gram|grams|kilogram|kilograms|meter|meters|kilometer|kilometers",
}  # fmt: skip
_MOST = 10**7  # a number beyond it is left as it is
_TRIES = 60  # draws of numbers for one problem
_GROWTH = 20  # a result may be at most so many times the original's


class Variant(NamedTuple):
    """A problem with its numbers, and its program's run."""

    question: str
    source: str
    steps: list[Step]
    number: int = 0  # a hash of the numbers: what tells two variants of one problem apart

    @property
    def answer(self) -> Fraction:
        return self.steps[-1].value


class Place(NamedTuple):
    """A number that can be replaced: where the question has it, and where the program."""

    value: Fraction
    decimals: int
    percent: bool
    in_question: list[tuple[int, int]]
    in_program: tuple[int, int]


def leaked(operations: Collection[Operation]) -> bool:
    """Whether a calculation is a problem of the built-in evaluation tasks: sums and differences of numbers below 100 whose key
    is not for training (lehr.data.synthetic.problems)."""
    for left, sign, right, _ in operations:
        if sign in "+-" and left.denominator == right.denominator == 1 and min(left, right) >= 0 and max(left, right) < 100:
            operation, a, b = "add" if sign == "+" else "subtract", int(left), int(right)
            problem = (operation == "add" or a >= b) and not is_digit_fact(operation, a, b)
            if problem and split_of(key_of(operation, a, b)) != "train":
                return True
    return False


def places(question: str, program: Program, keep: Collection[Fraction] = ()) -> list[Place]:
    """The numbers that can be replaced; those of `keep` cannot."""
    asked: dict[Fraction, list[re.Match[str]]] = {}
    for match in _NUMBER.finditer(question):
        asked.setdefault(Fraction(match.group().replace(",", "")), []).append(match)
    literals = program.literals()
    times = Counter(literal.value for literal in literals)
    words = set(re.findall(r"[a-z]+", question.lower())) | ({"percent"} if "%" in question else set())
    found = []
    for start, end, value in literals:
        if value not in asked or times[value] > 1 or value in keep or not 2 <= value <= _MOST or _known(value, words):
            continue
        spans = [match.span() for match in asked[value]]
        decimals = max(len(match.group().partition(".")[2]) for match in asked[value])
        percent = any(question[match.end() :].lstrip().startswith(("%", "percent")) for match in asked[value])
        found.append(Place(value, decimals, percent, spans, (start, end)))
    return found


def _known(value: Fraction, words: Collection[str]) -> bool:
    return value.denominator == 1 and any(word in words for word in _KNOWN.get(int(value), "").split("|"))


def substituted(seed: Seed, draw: Draw, refused: Counter[str], seen: Collection[int]) -> Variant | None:
    """A variant whose `number` is not `seen`; None if none is found that is natural. `refused` counts why others are not."""
    question, program = seed.question, seed.program
    where, original = places(question, program, seed.keep), program.run()
    if not where:
        refused["no number of the question is known in the program"] += 1
        return None
    for _ in range(_TRIES):
        numbers = [_drawn(place, draw) for place in where]
        if (own := derive(0, *numbers)) in seen:
            continue
        source = _replaced(program.source, [(place.in_program, n) for place, n in zip(where, numbers, strict=True)])
        try:
            steps = Program.of(source).run()
        except Unrunnable as error:
            refused[str(error)] += 1
            continue
        if why := unnatural(steps, original):
            refused[why] += 1
        elif leaked(list(operations_of(steps))):
            refused["a problem of an evaluation"] += 1
        else:
            spans = [(span, _as_asked(n, question[slice(*span)])) for place, n in zip(where, numbers, strict=True)
                     for span in place.in_question]  # fmt: skip
            return Variant(_replaced(question, spans), source, steps, own)
    return None


def unnatural(steps: list[Step], original: list[Step]) -> str:
    """Why a run is less natural than that of the original; "" if it is not."""
    for step, before in zip(steps, original, strict=True):
        if step.value < 0 <= before.value:
            return "negative"
        if step.value == 0 != before.value:
            return "nothing left"
        if step.value.denominator != 1 == before.value.denominator:
            return "a fraction of what was whole"
        if not _divides(before.value.denominator, step.value.denominator):
            return "more decimals"
        if abs(step.value) > _GROWTH * max(Fraction(1), abs(before.value)):
            return "too large"
    return ""


def _divides(before: int, now: int) -> bool:
    """Whether a number with the denominator `now` has no more decimals than one with `before`: 1/4 has two, 1/50 too."""
    decimals = next((d for d in range(7) if 10**d % before == 0), None)
    return decimals is None or 10**decimals % now == 0


def _drawn(place: Place, draw: Draw) -> str:
    """A number of half to twice the size, as round as the original from a hundred on, with as many decimals."""
    scale = int(10**place.decimals)
    own, grain = int(place.value * scale), 1
    while own >= 100 * scale and own % (grain * 10) == 0 and grain * 10 <= own // 10:
        grain *= 10
    most = min(2 * own, 99 * scale) if place.percent and place.value < 100 else 2 * own
    first, last = -(-max(2, -(-own // 2)) // grain), most // grain
    number = (first + draw.below(max(1, last - first + 1))) * grain
    whole, rest = divmod(number, scale)
    return f"{whole}.{rest:0{place.decimals}d}" if place.decimals else str(whole)


def _as_asked(number: str, before: str) -> str:
    """With commas in thousands where the original had them."""
    whole, point, decimals = number.partition(".")
    return f"{int(whole):,}{point}{decimals}" if "," in before else number


def _replaced(text: str, parts: list[tuple[tuple[int, int], str]]) -> str:
    for (start, end), new in sorted(parts, reverse=True):
        text = text[:start] + new + text[end:]
    return text
