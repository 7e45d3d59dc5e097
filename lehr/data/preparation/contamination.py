"""Training documents that hold evaluation examples, or much of a held-back document, are dropped, and it is recorded which."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lehr.data.decontaminate import Decontaminator
from lehr.data.preparation.compared import Compared, Passes
from lehr.data.preparation.filtering import SHOWN
from lehr.data.preparation.funnel import CONTAMINATES
from lehr.data.preparation.overlap import Overlap, overlaps
from lehr.data.preparation.parts import Part, save_array
from lehr.data.preparation.rows import Rows
from lehr.data.preparation.shares import INDEX, OVERLAP, save_needs, tasks_of
from lehr.data.preparation.splitting import DEV, HELD_OUT, NAMES, TRAIN

Texts = Mapping[str, Sequence[str]]  # task -> the texts of its examples


class Contaminated(NamedTuple):
    """A document, by part and row, that holds examples of a task: the number of each -> how many n-grams of it."""

    task: str
    items: dict[int, int]
    part: Part
    row: int


def index_of(corpus: Compared, evaluation_texts: Texts, folder: Path) -> Decontaminator:
    """The n-grams of evaluation examples and held-back documents, with a copy in `folder` for other processes, and the rows of
    each part's training documents: all that the second pass needs."""
    wish, held_back = corpus.config.decontamination, _held_back(corpus)
    hits = dict.fromkeys(evaluation_texts, wish.hits) | dict.fromkeys(held_back, wish.held_back_hits)
    index = Decontaminator({**evaluation_texts, **held_back}, wish.ngram, hits)
    if not (folder / f"{OVERLAP}.json").is_file():
        (folder / INDEX).mkdir(exist_ok=True)
        index.save(folder / INDEX)
        for part, numbers in corpus.spans():
            save_array(part.file("train.npy"), np.flatnonzero(corpus.fates["split"][numbers] == TRAIN))
        save_needs(folder, OVERLAP, rows=corpus.rows)
    return index


def _held_back(corpus: Compared) -> dict[str, list[str]]:
    return {f"{NAMES[split]} documents": [row["text"] for row in corpus.of_split(split)] for split in (DEV, HELD_OUT)}


def decontaminate(corpus: Compared, evaluation_texts: Texts, passes: Passes, folder: Path) -> list[Contaminated]:
    """Drop training documents that share too much with an evaluation example or a held-back document; returns those that do
    with evaluation examples. `folder` is the corpus'."""
    wish, index = corpus.config.decontamination, index_of(corpus, evaluation_texts, folder)
    hits, held_back = index.hits, index.hits.keys() - evaluation_texts.keys()
    passes.run(tasks_of(OVERLAP, corpus.config, corpus.parts, folder))
    seen = np.zeros(len(index), np.int64)
    for part in corpus.parts:
        for found in overlaps(part):
            seen[np.unique(found.shared)] += 1
    forgotten = index.forget_common(seen, wish.boilerplate_documents, held_back)
    passes.watch.note(f"{forgotten:,} phrases of held-back documents are boilerplate and do not count as contamination")

    def task_of(found: Overlap) -> str | None:
        least = math.ceil(found.ngrams * wish.overlap)
        return index.contaminated(found.shared, {t: n if t in held_back else max(n, least) for t, n in hits.items()})

    contaminated = []
    for part, numbers in corpus.spans():
        for found in overlaps(part):
            if task := task_of(found):
                corpus.drop([numbers.start + found.row], f"{CONTAMINATES} {task}")
                if task not in held_back:
                    items = {item: times for (of, item), times in index.items(found.shared).items() if of == task}
                    contaminated.append(Contaminated(task, items, part, found.row))
    return contaminated


def rows_of(corpus: Compared, contaminated: Sequence[Contaminated], evaluation_texts: Texts) -> Iterator[dict[str, object]]:
    """A row for each document and evaluation example: how many n-grams of the example the document held."""
    for found in contaminated:
        [row] = Rows(found.part.file(corpus.rows)).at([found.row])
        for item, times in sorted(found.items.items()):
            example = evaluation_texts[found.task][item][:SHOWN]
            said = {"source": row["source"], "id": row["id"], "ngrams": times}
            yield {"task": found.task, "item": item, "example": example, **said}
