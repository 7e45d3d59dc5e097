"""Training documents for pretraining mixes, of several solved problems each, so that a short window holds whole problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lehr.config.sources import SyntheticSource
from lehr.data.document import Document
from lehr.data.synthetic.problems import FAMILIES, Problem, problem
from lehr.data.synthetic.splits import drawn
from lehr.runtime.errors import UserError

_FEWEST, _MOST = 3, 6  # problems in a document


def question_prompt(p: Problem) -> str:
    """The text before the solution in the main rendering, which is also the prompt in evaluation."""
    return f"Question: {p.question}\nAnswer:"


def rendering(p: Problem, style: int = 0) -> str:
    """A solved problem as pretraining text. Style 0 is question and answer, 1 problem and solution, 2 the working alone."""
    if style == 1:
        return f"Problem: {p.question}\nSolution: {p.working}"
    if style == 2:
        return p.working
    return f"{question_prompt(p)} {p.working}"


def _style(family: str, draw_below_10: int) -> int:
    """6 in 10 are question and answer. A story's working without the story is meaningless: only arithmetic has style 2."""
    if draw_below_10 < 6:
        return 0
    return 1 if draw_below_10 < 8 or family == "word_problems" else 2


def documents(
    generator_name: str,
    source_config: SyntheticSource,
    seed: int,
    refuse: Callable[[str], bool] = lambda question: False,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Document]:
    """`source_config.documents` documents of a generator's training problems. `refuse`: whether a question of one's own is one
    of an evaluation, whatever its numbers; `note` is told what was used. Raises UserError: unknown generator, and as
    lehr.data.synthetic.programmed does."""
    from lehr.data.synthetic import calculations, programmed  # which read files: not for whoever only asks for a problem

    if generator_name == "programs":
        yield from programmed.documents(source_config, seed, refuse, note)
        return
    if generator_name == "calculations":
        yield from calculations.documents(source_config.documents, seed)
        return
    if generator_name not in FAMILIES:
        known = ", ".join([*FAMILIES, "calculations", "programs"])
        raise UserError(f"there is no generator {generator_name!r}", remedy=f"generators are: {known}")
    index = 0
    for number in range(source_config.documents):
        draw = drawn(seed, "document", generator_name, number)
        parts = []
        for _ in range(_FEWEST + draw.below(_MOST - _FEWEST + 1)):
            p = problem(generator_name, "train", index, seed)
            parts.append(rendering(p, _style(generator_name, draw.below(10))))
            index += 1
        yield Document(id=f"{generator_name}-{number:06d}", source=generator_name, text="\n".join(parts) + "\n")
