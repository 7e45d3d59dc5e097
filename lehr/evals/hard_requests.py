"""Examples that cannot be scored, and choices that can and deserve a word: docs/evaluation.md says how each is handled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lehr.evals.task import Choice, Document, Example, Options, Question
from lehr.runtime.errors import UserError

_REMEDY = "correct the example, or leave it out"


def check_choices(task: str, examples: Sequence[Example]) -> None:
    """Raises UserError, which names the first example that cannot be scored: one without a continuation, or with an empty one
    (nothing is certain, so it would be the most probable of all), one that has another number of contexts than of
    continuations, and one whose right answer is none of them."""
    for number, example in enumerate(examples):
        if isinstance(example, Choice | Options | Question) and (what := _wrong(example)):
            raise UserError(f"task {task}, example {number}: {what}", remedy=_REMEDY)


def check_windows(task: str, examples: Sequence[Example], context: int) -> None:
    """Raises UserError for texts that are to be read in windows longer than the model's `context`."""
    window = max((example.window for example in examples if isinstance(example, Document)), default=0)
    if window > context:
        what = f"task {task}: windows of {window} tokens are more than the model's context of {context}"
        raise UserError(what, remedy=f"lower the task's `window` to {context} or less, or leave it out")


def _wrong(example: Choice | Options | Question) -> str:
    texts, contexts = example.continuations, example.contexts if isinstance(example, Options) else None
    if not texts:
        return "it has no continuation"
    if contexts is not None and len(contexts) != len(texts):
        return f"{len(contexts)} contexts for {len(texts)} continuations"
    if isinstance(example, Options) and example.alone and len(example.alone) != len(texts):
        return f"{len(example.alone)} contexts without the question for {len(texts)} continuations"
    if empty := [i for i, text in enumerate(texts) if not text]:
        return f"continuation {empty[0]} is empty"
    if isinstance(example, Question):
        outside = [gold for gold in example.golds if not 0 <= gold < len(texts)]
        if len(texts) > 1 and not example.golds:
            return "it has no right answer"
        return f"its right answer is number {outside[0]} of {len(texts)}, counted from 0" if outside else ""
    if not isinstance(example.gold, int) or not 0 <= example.gold < len(texts):
        return f"its right answer is number {example.gold!r} of {len(texts)}, counted from 0"
    return ""


def remarkable(examples: Sequence[Example]) -> list[str]:
    """What is said of choices that are scored by their rules and surprise: one the beginning of another, and equal ones."""
    asked = [e.continuations for e in examples if isinstance(e, Choice | Options | Question) and len(e.continuations) > 1]
    kinds: dict[str, Callable[[str, str], bool]] = {
        "an answer that is the beginning of another: by the sum the shorter one is never less probable": _begins,
        "two equal answers: the first of the most probable ones counts": str.__eq__,
    }
    said = []
    for words, holds in kinds.items():
        count = sum(any(holds(a, b) for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j) for texts in asked)
        said += [f"{count} of {len(asked)} questions have {words}"] if count else []
    return said


def _begins(a: str, b: str) -> bool:
    return a != b and b.startswith(a)
