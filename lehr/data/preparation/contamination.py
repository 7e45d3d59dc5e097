"""Training documents that hold evaluation examples, or much of a held-back document, are dropped or flagged, and it is recorded
which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from lehr.data.decontaminate import Decontaminator
from lehr.data.evaluation_texts import least_ngrams
from lehr.data.leaks import SHOWN, Found, judged, kept, rows
from lehr.data.preparation.compared import Compared, Passes
from lehr.data.preparation.funnel import CONTAMINATES
from lehr.data.preparation.overlap import overlaps
from lehr.data.preparation.pace import OVERLAP
from lehr.data.preparation.parts import Part, save_array
from lehr.data.preparation.rows import Row, Rows
from lehr.data.preparation.shares import INDEX, save_needs, tasks_of
from lehr.data.preparation.splitting import DEV, HELD_OUT, NAMES, TRAIN

Texts = Mapping[str, Sequence[str]]  # task -> the texts of its examples


@dataclass(frozen=True)
class Contamination:
    """What was found: documents by part and row, and what they hold. `keys` are those of held-back documents."""

    index: Decontaminator
    keys: Mapping[str, Sequence[str]]
    found: Sequence[tuple[Part, int, Found]]

    def rows(self, corpus: Compared) -> Iterator[dict[str, object]]:
        """A row for each document and evaluation example: see lehr.data.leaks."""
        for part, group in groupby(self.found, key=lambda each: each[0]):  # in order of parts and rows
            holders = list(group)
            read = Rows(part.file(corpus.rows)).at([number for _, number, _ in holders])
            for (_, _, found), row in zip(holders, read, strict=True):
                yield from rows(self.index, found, (row["source"], row["id"]), self.keys)

    def said(self) -> str:
        """How many documents hold something, and how many of them stay."""
        stay = sum(kept(found, self.index.action) for _, _, found in self.found)
        return f"{len(self.found):,} documents hold text of an evaluation; {stay:,} of them stay, and scores say which"


def held_back_task(split: str) -> str:
    """The name under which the held-back documents of a split (dev, held_out) are compared, as an evaluation task is."""
    return f"{split} documents"


def index_of(corpus: Compared, evaluation_texts: Texts, folder: Path) -> tuple[Decontaminator, Mapping[str, Sequence[str]]]:
    """What evaluation examples and held-back documents hold, and the keys of the latter by their task. A copy for other
    processes, and the rows of each part's training documents, lie in `folder`: all that the second pass needs."""
    wish = corpus.config.decontamination
    texts, keys = dict(evaluation_texts), dict[str, list[str]]()
    for split in (DEV, HELD_OUT):
        task = held_back_task(NAMES[split])
        found = [(row["text"], _key(row)) for row in corpus.of_split(split)]
        texts[task], keys[task] = [text for text, _ in found], [key for _, key in found]
    del found
    hits = least_ngrams(evaluation_texts, wish.hits) | dict.fromkeys(keys, wish.held_back_hits)
    index = Decontaminator(texts, wish.ngram, hits, wish.paragraphs, wish.action)
    # What a record shows of long texts is enough from here on.
    index.texts = {task: [text[:SHOWN] for text in texts[task]] if task in keys else texts[task] for task in texts}
    if not (folder / f"{OVERLAP}.json").is_file():
        (folder / INDEX).mkdir(exist_ok=True)
        index.save(folder / INDEX)
        for part, numbers in corpus.spans():
            save_array(part.file("train.npy"), np.flatnonzero(corpus.fates["split"][numbers] == TRAIN))
        save_needs(folder, OVERLAP, rows=corpus.rows)
    return index, keys


def decontaminate(corpus: Compared, evaluation_texts: Texts, passes: Passes, folder: Path) -> Contamination:
    """Find the training documents that share too much with an evaluation example or a held-back document, and drop them unless
    they are only to be flagged. `folder` is the corpus'."""
    wish = corpus.config.decontamination
    index, keys = index_of(corpus, evaluation_texts, folder)
    passes.run(OVERLAP, tasks_of(OVERLAP, corpus.config, corpus.parts, folder))
    _forget_boilerplate(index, corpus, passes, keys)
    contaminated = []
    for part, numbers in corpus.spans():
        for each in overlaps(part):
            holds = judged(index, each.ngrams, each.shared, each.paragraphs, overlap=wish.overlap, held_back=keys)
            if holds:
                contaminated.append((part, each.row, holds))
                if not kept(holds, wish.action):
                    corpus.drop([numbers.start + each.row], f"{CONTAMINATES} {holds.worst}")
    return Contamination(index, keys, contaminated)


def _key(row: Row) -> str:
    """As lehr.evals.corpus.held_back names the document's family."""
    return f"{row['source']}/{row.get('parent') or row['id']}"


def _forget_boilerplate(index: Decontaminator, corpus: Compared, passes: Passes, held_back: Mapping[str, object]) -> None:
    """What stands in many documents is no evidence about one: see lehr.config.decontamination."""
    limit = corpus.config.decontamination.boilerplate_documents
    seen, seen_paragraphs = np.zeros(len(index), np.int64), Counter[int]()
    for part in corpus.parts:
        for found in overlaps(part):
            seen[np.unique(np.array(found.shared, np.int64))] += 1
            seen_paragraphs.update(found.paragraphs)
    forgotten = index.forget_common(seen, limit, held_back.keys())
    passes.watch.note(f"{forgotten:,} phrases of held-back documents are boilerplate and do not count as contamination")
    if index.paragraphs:
        mistaken = index.paragraphs.mistaken(seen_paragraphs)
        lines = index.paragraphs.forget_common(seen_paragraphs, limit, held_back.keys())
        said = f"{lines:,} paragraphs of held-back documents are boilerplate too"
        passes.watch.note(f"{said}; {mistaken:,} paragraphs passed the Bloom filter by chance and do not count either")
