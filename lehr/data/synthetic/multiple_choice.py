"""Arithmetic with four choices, for the cloze and the letter formulation (OLMES, arXiv 2406.08446)."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.problems import Problem, problem
from lehr.data.synthetic.splits import Split, drawn

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A question, four different answers, and the index of the right one (uniformly drawn)."""

    problem: Problem
    choices: tuple[str, ...]
    gold: int

    @property
    def solutions(self) -> list[str]:
        """The problem's working with each choice as its conclusion."""
        shown = self.problem.working.removesuffix(self.problem.answer)
        return [shown + choice for choice in self.choices]


def distractors(answer: int, draw: Draw) -> list[int]:
    """Three wrong answers: off by one, off by ten, digits swapped (or the next near miss); distinct and not negative."""
    swapped = int(str(answer)[::-1])
    off_by_one, off_by_ten = draw.shuffled([answer + 1, answer - 1]), draw.shuffled([answer + 10, answer - 10])
    wrong: list[int] = []
    for candidates in (off_by_one, off_by_ten, [swapped, answer + 2, answer + 11]):
        wrong.append(next(c for c in candidates if c >= 0 and c != answer and c not in wrong))
    return wrong


def multiple_choice(split: Split, index: int, seed: int) -> MultipleChoice:
    """The item at `index` of a split: a pure function of its arguments."""
    p = problem("arithmetic", split, index, seed)
    draw = drawn(seed, "multiple_choice", split, index)
    wrong = [str(n) for n in distractors(int(p.answer), draw)]
    gold = draw.below(len(LETTERS))
    return MultipleChoice(p, (*wrong[:gold], p.answer, *wrong[gold:]), gold)
