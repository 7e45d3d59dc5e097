"""The texts of evaluation examples, with which training documents are compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from lehr.data.decontaminate import Decontaminator
from lehr.data.evaluation_texts import TextsByTask
from lehr.data.ngram_words import tokens
from lehr.data.synthetic.conversations import ASKED_FORMAT
from lehr.data.synthetic.problems import pool, problem
from lehr.data.synthetic.splits import Split
from lehr.evals.held_out import unscored
from lehr.evals.own import by_paragraph, identity
from lehr.evals.suites import NEEDS_ABOUT, NEEDS_CORPUS, NEEDS_PAIRS, check_task, examples, only_split
from lehr.evals.task import Asked, Choice, Generation, Options, Passage, Question, Text

_BOTH: tuple[Split, Split] = ("dev", "held_out")
_FAMILIES = {
    "arithmetic": ("arithmetic",),
    "arithmetic_cf": ("arithmetic",),
    "arithmetic_mcf": ("arithmetic",),
    "word_problems": ("word_problems",),
    "math_text": ("arithmetic", "word_problems"),
    "chat_math": ("arithmetic", "word_problems"),
}
_MASKED_NGRAM = 8  # words
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_LIMIT = 1_000_000  # of real documents: in effect all of them


def evaluation_texts(
    tasks: Sequence[str], seed: int, corpus_folder: Path | None = None, *, ngram_words: int = 10
) -> TextsByTask:
    """Every text of each task's dev and held-out examples, by task, for n-gram comparison with training documents.

    For generated problems: the questions of *all* dev and held-out keys, whatever the task's limit, and of each question the
    words around its numbers, so that an n-gram identifies the problem and not the phrasing, which training stories share on
    purpose. Tasks whose texts do not exist yet (corpus not prepared, pairs not sampled) have none. Raises UserError for an
    unknown task. A task of one's own stands there by its identity, and may be one of which whole paragraphs alone count.
    """
    for task in tasks:
        check_task(task)
    named = {identity(task): task for task in tasks}

    def make(name: str) -> list[str]:
        task = named[name]
        absent = task in NEEDS_PAIRS | NEEDS_ABOUT or (task in NEEDS_CORPUS and corpus_folder is None)
        return [] if absent else list(dict.fromkeys(_texts(task, seed, corpus_folder, ngram_words)))

    return TextsByTask(list(named), make, frozenset(name for name, task in named.items() if by_paragraph(task)))


def question_index(texts: Mapping[str, Sequence[str]]) -> Callable[[str], bool]:
    """Whether a question is one of an evaluation whatever its numbers, so that no variant of it with other numbers may be
    trained on: at least half of its n-grams of eight words, numbers left open, are those of an example. The built-in problems
    share their wordings with training on purpose, and are kept apart by their keys."""
    masked = {task: [_NUMBER.sub("0", text) for text in texts[task]] for task in texts if task not in _FAMILIES}
    index = Decontaminator(masked, _MASKED_NGRAM, dict.fromkeys(masked, 1))

    def asked(question: str) -> bool:
        text = _NUMBER.sub("0", question)
        [shared] = index.shared([text])
        return bool(shared) and 2 * len(shared) >= len(tokens(text)) - _MASKED_NGRAM + 1

    return asked


def compared_text(task: str, example: object, ngram_words: int) -> str:
    """The text by which an example of a task is compared: one of `evaluation_texts`."""
    text = _text(example)
    if task not in _FAMILIES:
        return text
    asked = text.removeprefix("Question: ").partition("\n")[0]
    return around_numbers(asked.removesuffix(f" {ASKED_FORMAT}"), ngram_words)


def _texts(task: str, seed: int, corpus_folder: Path | None, ngram_words: int) -> Iterator[str]:
    only = only_split(task)
    for split in (only,) if only else _BOTH:
        for family in _FAMILIES.get(task, ()):
            yield from _questions(family, split, seed, ngram_words)
        if task not in _FAMILIES:
            yield from map(_text, unscored(examples(task, split, _LIMIT, seed, corpus_folder), "decontamination"))


@lru_cache(maxsize=8)  # several tasks use the same questions
def _questions(family: str, split: Split, seed: int, ngram_words: int) -> tuple[str, ...]:
    problems = (problem(family, split, index, seed) for index in range(len(pool(family, split))))
    return tuple(around_numbers(p.question, ngram_words) for p in problems)


def around_numbers(question: str, ngram_words: int) -> str:
    """The words of all n-grams that contain every number of a question; a short question as a whole."""
    words = question.split()
    places = [i for i, word in enumerate(words) if re.search(r"\d", word)]
    if len(words) <= ngram_words or not places:
        return question
    return " ".join(words[max(0, places[-1] - ngram_words + 1) : places[0] + ngram_words])


def _text(example: object) -> str:
    match example:
        case Text() | Passage():
            return example.text
        case Question() | Asked():
            return example.compared
        case Choice():
            return example.context + example.continuations[example.gold]
        case Options():
            return example.contexts[example.gold].rpartition("\n\n")[2] + example.continuations[example.gold]
        case Generation():
            return example.prompt or example.messages[-1].content
    raise TypeError(f"no text in a {type(example).__name__}")
