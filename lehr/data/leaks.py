"""Which documents hold which evaluation examples: what a comparison finds, and the record of it that scores read.

A document is *contaminated* by a task if it shares enough n-grams with the task's examples, or a whole paragraph with one.
It is then removed, or kept and flagged; either way each example that it holds is written down."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from lehr.config.decontamination import Action
from lehr.data.decontaminate import Decontaminator, Shared
from lehr.data.dedup.paragraphs import paragraph_key
from lehr.data.ngram_words import tokens
from lehr.data.paragraph_index import Item
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_rows

LEAKS = "contamination.jsonl.gz"  # rows of documents and evaluation examples, in each artifact that was compared
NO_KEYS: Mapping[str, Sequence[str]] = MappingProxyType({})
SHOWN = 300  # characters of an example that a row has
_AGAIN = "delete this artifact's folder and run the same command again"


class Found(NamedTuple):
    """`worst` is the task for which the document is to go, "" for none; `items`: each example that the document holds -> its
    n-grams and paragraphs there; `keys`: of the document's paragraphs, those that may be an evaluation's."""

    worst: str
    items: dict[Item, tuple[int, int]]
    keys: frozenset[int] = frozenset()


class Leak(NamedTuple):
    """A document and an example that it holds. `key` is that of the example's text, or of a held-back document its source and
    id (lehr.evals.corpus.family); `kept`: whether the document that holds it was trained on; `paragraph`: the beginning of the
    first paragraph that both have, as far as the example's text was at hand (records of earlier versions have none)."""

    task: str
    item: int
    key: str
    source: str
    id: str
    ngrams: int
    paragraphs: int
    kept: bool
    paragraph: str = ""


def text_key(text: str) -> str:
    """What an example's text is known by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def judged(
    index: Decontaminator, ngrams: int, shared: Shared, paragraphs: list[int], *, overlap: float = 0.0,
    held_back: Collection[str] = (),
) -> Found | None:  # fmt: skip
    """What a document of `ngrams` n-grams holds that shares these with evaluation texts; None for nothing that counts.
    `overlap` is the least share of its n-grams for which it is to go, but for those of the tasks `held_back`."""
    counts, whole = index.counts(shared), index.paragraphs.items(paragraphs) if index.paragraphs else Counter[Item]()
    hit = {task for task, count in counts.items() if count >= index.hits[task]}
    by_paragraph = {task for task, _ in whole}
    if not hit and not by_paragraph:
        return None
    least = math.ceil(ngrams * overlap)
    grave = [task for task, count in counts.most_common() if task in hit and (task in held_back or count >= least)]
    grave += [task for task, _ in whole]
    held = {item: (times, whole[item]) for item, times in index.items(shared).items() if item[0] in hit | by_paragraph}
    held |= {item: (0, times) for item, times in whole.items() if item not in held}
    return Found(grave[0] if grave else "", _by_themselves(index, held), frozenset(paragraphs))


def _by_themselves(index: Decontaminator, held: dict[Item, tuple[int, int]]) -> dict[Item, tuple[int, int]]:
    """Of each task the examples that would contaminate the document alone, such as the long text that it copies and not those
    that share a phrase with it; where there is none, all of them together do."""
    alone = {item for item, (ngrams, paragraphs) in held.items() if paragraphs or ngrams >= index.hits[item[0]]}
    tasks = {task for task, _ in alone}
    return {item: counts for item, counts in held.items() if item in alone or item[0] not in tasks}


def judged_text(index: Decontaminator, text: str, shared: Shared) -> Found | None:
    """The same of a text."""
    suspects = index.suspects(text, shared)
    return judged(index, max(0, len(tokens(text)) - index.n + 1), shared, suspects) if shared or suspects else None


def kept(found: Found, action: Action) -> bool:
    """Whether the document is trained on."""
    return action == "flag" or not found.worst


def rows(
    index: Decontaminator, found: Found, document: tuple[str, str], keys: Mapping[str, Sequence[str]] = NO_KEYS
) -> Iterator[dict[str, object]]:
    """The record of what one document (its source and id) holds, in order of tasks and examples. `keys` are those of tasks
    whose texts are not known by themselves."""
    for (task, item), (ngrams, paragraphs) in sorted(found.items.items()):
        text = index.texts[task][item]
        key = keys[task][item] if task in keys else text_key(text)
        shared = _first_shared(text, found.keys)[:SHOWN] if paragraphs else ""
        leak = Leak(task, item, key, *document, ngrams, paragraphs, kept(found, index.action), shared)
        yield {**leak._asdict(), "example": text[:SHOWN]}


def _first_shared(text: str, keys: Collection[int]) -> str:
    return next((line.strip() for line in text.split("\n") if paragraph_key(line) in keys), "")


def read_leaks(folder: Path) -> Iterator[Leak]:
    """Those of an artifact; none where it was not compared. Raises UserError where the record is damaged or of an older
    version, which did not say all of it."""
    path = folder / LEAKS
    for row in read_rows(path, _AGAIN) if path.is_file() else ():
        if not row.keys() >= set(Leak._fields) - {"paragraph"}:
            raise UserError("a row that does not say which document holds which example", where=path, remedy=_AGAIN)
        yield Leak(**{name: row[name] for name in Leak._fields if name in row})
