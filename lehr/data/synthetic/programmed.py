"""Training documents of word problems whose answers come from running their programs (OLMo 2 section 4.4.1).

A problem is written in one of the source's styles: the program with the value of every assignment behind it, as TinyGSM's were
annotated; its calculations as a text, one at a time; or the answer alone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lehr.config.sources import ProgramStyle, SyntheticSource
from lehr.data.document import Document
from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.interpreter import Step, operations_of, written
from lehr.data.synthetic.seeds import Seed, seeds
from lehr.data.synthetic.splits import drawn
from lehr.data.synthetic.substitution import Variant, leaked, substituted
from lehr.data.synthetic.wording import NAMES, OBJECTS
from lehr.runtime.errors import UserError

_FEWEST, _MOST = 3, 6  # problems in a document

Refuse = Callable[[str], bool]  # whether a question is one of an evaluation, whatever its numbers


@dataclass
class _Source:
    """The problems of a source in turn, read anew in each: not one of them is held in memory."""

    config: SyntheticSource
    seed: int
    refuse: Refuse
    seeds_refused: Counter[str] = field(default_factory=Counter)
    variants_refused: Counter[str] = field(default_factory=Counter)
    used: int = 0

    def problems(self) -> Iterator[Variant]:
        """Each as it is once, or with other numbers for as long as there are natural ones that did not come before."""
        assert self.config.programs is not None
        own = self.config.programs.numbers == "own"
        seen = dict[int, set[int]]()
        exhausted = set[int]()
        for turn in itertools.count():
            for number, seed in enumerate(self._usable(first=turn == 0)):
                draw = drawn(self.seed, "programs", seed.id, turn, number)
                self.used += turn == 0
                if number in exhausted:
                    continue
                found = _as_it_is(seed) if own else substituted(seed, draw, self.variants_refused, seen.get(number, ()))
                if found is None or own:
                    exhausted.add(number)
                if found is not None:
                    seen.setdefault(number, set()).add(found.number)
                    yield found._replace(question=_named(found.question, draw))
            if len(exhausted) == self.used:
                return

    def _usable(self, *, first: bool) -> Iterator[Seed]:
        """`first`: count those that are refused."""
        assert self.config.programs is not None
        refused = self.seeds_refused if first else Counter[str]()
        for seed in seeds(self.config.programs, refused):
            if self.refuse(seed.question):
                refused["a problem of an evaluation, whatever its numbers"] += 1
            elif self.config.programs.numbers == "own" and leaked(list(operations_of(seed.program.run()))):
                refused["a problem of an evaluation"] += 1
            else:
                yield seed

    def said(self, name: str) -> str:
        """What was used and what was not."""
        text = f"{name}: {self.used:,} problems with programs"
        for what, counts in (("problems", self.seeds_refused), ("drawn variants", self.variants_refused)):
            if counts:
                reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
                text += f"; {what} refused: {reasons}"
        return text


def documents(
    config: SyntheticSource, seed: int, refuse: Refuse = lambda question: False, note: Callable[[str], None] = lambda text: None
) -> Iterator[Document]:
    """At most `config.documents` documents; fewer where the problems have no more natural variants. Raises UserError if there
    is no problem at all, and as lehr.data.synthetic.seeds does."""
    assert config.programs is not None
    source = _Source(config, seed, refuse)
    problems = source.problems()
    for number in range(config.documents):
        draw = drawn(seed, "programs", "document", number)
        wanted = _FEWEST + draw.below(_MOST - _FEWEST + 1)
        taken = [found for _, found in zip(range(wanted), problems, strict=False)]
        parts = [rendering(found, draw.choice(config.programs.styles)) for found in taken]
        if not parts:
            break
        yield Document(id=f"programs-{number:06d}", source="programs", text="\n".join(parts) + "\n")
    note(source.said("programs"))
    if not source.used:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in source.seeds_refused.most_common(3)) or "no rows"
        what = f"no problem with a program can be used: {reasons}"
        raise UserError(what, where=config.programs.path, remedy="write programs of assignments")


def _as_it_is(seed: Seed) -> Variant:
    return Variant(seed.question, seed.program.source, seed.program.run())


def _named(question: str, draw: Draw) -> str:
    """With people and things in the place of a built-in problem's."""
    name, other = draw.sample(NAMES, 2)
    values = {"{name}": name, "{other}": other, "{things}": draw.choice(OBJECTS)}
    for mark, value in values.items():
        question = question.replace(mark, value)
    return question


def rendering(found: Variant, style: ProgramStyle) -> str:
    """A solved problem as text."""
    answer = written(found.answer) or ""
    if style == "answer":
        return f"Question: {found.question}\nAnswer: {answer}"
    if style == "annotated":
        return f"Question: {found.question}\n{annotated(found)}\nAnswer: {answer}"
    told = [sentence for step in found.steps if (sentence := _sentence(step))]
    return f"Question: {found.question}\nAnswer: {' '.join([*told, f'The answer is {answer}.'])}"


def annotated(found: Variant) -> str:
    """The assignments of the program, each with its value in a comment, which OLMo 2 calls inline annotation."""
    return "\n".join(f"{step.name} = {step.expression}  # {written(step.value) or _rounded(step)}" for step in found.steps)


def _rounded(step: Step) -> str:
    return f"about {float(step.value):.6g}"


def _sentence(step: Step) -> str:
    """An assignment's calculations, one by one: `Left: 48 - 9 = 39.` A number that is only given needs none."""
    if not step.operations or any(written(value) is None for o in step.operations for value in (o.left, o.right, o.value)):
        return "" if step.given else f"{_title(step.name)}: {written(step.value) or _rounded(step)}."
    told = (f"{written(o.left)} {o.sign} {written(o.right)} = {written(o.value)}" for o in step.operations)
    return f"{_title(step.name)}: {', '.join(told)}."


def _title(name: str) -> str:
    words = name.replace("_", " ").strip() or name
    return words[0].upper() + words[1:]
