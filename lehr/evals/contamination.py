"""The texts of the evaluation, against which training documents are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lehr.data.synthetic.problems import pool, problem
from lehr.data.synthetic.splits import Split
from lehr.evals.suites import NEEDS_CORPUS, NEEDS_PAIRS, check_task, examples
from lehr.evals.task import Choice, Generation, Text

_BOTH: tuple[Split, Split] = ("dev", "held_out")
_FAMILIES = {
    "arithmetic": ("arithmetic",),
    "arithmetic_cf": ("arithmetic",),
    "arithmetic_mcf": ("arithmetic",),
    "word_problems": ("word_problems",),
    "math_text": ("arithmetic", "word_problems"),
    "chat_math": ("arithmetic", "word_problems"),
}
_LIMIT = 1_000_000  # of real documents: all of them


def evaluation_texts(
    tasks: Sequence[str], seed: int, corpus_folder: Path | None = None, *, ngram_words: int = 10
) -> dict[str, list[str]]:
    """Every text of each task's dev and held-out examples, by task, for n-gram comparison with training documents.

    Of problems: the questions of *all* dev and held-out keys, not only of as many as a limit takes, and of each the
    words around its two numbers, so that an n-gram tells the problem and not the phrasing (training stories share
    phrasings on purpose). Tasks whose texts do not exist yet (corpus not prepared, pairs not sampled) have none.
    Raises UserError for an unknown task.
    """
    texts: dict[str, list[str]] = {}
    for task in tasks:
        check_task(task)
        absent = task in NEEDS_PAIRS or (task in NEEDS_CORPUS and corpus_folder is None)
        texts[task] = [] if absent else list(dict.fromkeys(_texts(task, seed, corpus_folder, ngram_words)))
    return texts


def _texts(task: str, seed: int, corpus_folder: Path | None, ngram_words: int) -> Iterator[str]:
    for split in _BOTH:
        for family in _FAMILIES.get(task, ()):
            for index in range(len(pool(family, split))):
                yield around_numbers(problem(family, split, index, seed).question, ngram_words)
        if task not in _FAMILIES:
            yield from map(_text, examples(task, split, _LIMIT, seed, corpus_folder))


def around_numbers(question: str, ngram_words: int) -> str:
    """The words that make up all n-grams which hold every number of a question; a short question whole."""
    words = question.split()
    places = [i for i, word in enumerate(words) if re.search(r"\d", word)]
    if len(words) <= ngram_words or not places:
        return question
    return " ".join(words[max(0, places[-1] - ngram_words + 1) : places[0] + ngram_words])


def _text(example: object) -> str:
    match example:
        case Text():
            return example.text
        case Choice():
            return example.context + example.continuations[example.gold]
        case Generation():
            return example.prompt or example.messages[-1].content
    raise TypeError(f"no text in a {type(example).__name__}")
