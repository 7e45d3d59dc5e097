"""The first pass: documents of one part are read, cut, filtered and written, each with its scores or its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lehr.config.data import Data
from lehr.config.governance import Policy
from lehr.config.sources import FilesSource
from lehr.data.damage import Damage
from lehr.data.document import Document, chunk
from lehr.data.filters import filters
from lehr.data.preparation.parts import KEYS, Part, Tally, text_key
from lehr.data.preparation.rows import RowsWriter
from lehr.data.readers import read
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.seeds import uniform_hash

SHOWN = 300  # characters of a dropped document kept for the audit
_EMPTY_LINES = re.compile(r"\A(?:[^\S\n]*+\n)++")
_IDS_REMEMBERED = 1 << 20  # hashes of ids: a repeated id beyond so many is not noticed
_KEYS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class FilterPart:
    """The work on one part, for a process that knows nothing else."""

    part: Part
    config: Data

    def done(self) -> bool:
        return self.part.file("tally.json").is_file()

    def fetched(self) -> FilterPart:
        """With a copy of an object of a store; raises as the store does."""
        one = self.part.input
        if one is None or not one.version:
            return self
        return replace(self, part=replace(self.part, input=replace(one, copy=str(one.local()))))

    def __call__(self, given: Iterable[Document] | None = None) -> Tally:
        """Read the part, or the documents `given` by a generator."""
        part, source = self.part, self.part.source
        damage = Damage(stops=isinstance(source, FilesSource) and source.damaged == "stop")
        if given is None:
            assert isinstance(source, FilesSource) and part.input is not None
            documents = read(part.name, source, part.input, damage)
            judge = _licensed(self.config.policy, filters(self.config.filters))
        else:
            documents, judge = iter(given), _keep
        tally = _write(part, self._judged(documents, judge), given is not None)
        tally.damaged, tally.first_damage, tally.skipped = damage.counts, damage.first, damage.skipped
        tally.write(part.file("tally.json"))
        return tally

    def _judged(self, documents: Iterator[Document], judge: Filter) -> Iterator[tuple[Document, Keep | Drop, bool]]:
        """Each piece of each document, what the filters say of it, and whether its document has an id that came before."""
        ids = set[int]()
        for whole in documents:
            number, again = hash(whole.id), False
            if number in ids:
                again = True
            elif len(ids) < _IDS_REMEMBERED:
                ids.add(number)
            for document in map(_from_its_first_line, chunk(whole, self.config.chunk_characters)):
                yield document, judge(document), again
                again = False


def _licensed(policy: Policy | None, judge: Filter) -> Filter:
    """`judge`, after documents whose own licence the policy does not allow."""
    if policy is None:
        return judge

    def licensed(document: Document) -> Keep | Drop:
        own = document.license
        if policy.allows(own) if own else policy.unlicensed == "source":
            return judge(document)
        return Drop("licence not allowed" if own else "licence unknown")

    return licensed


def _keep(document: Document) -> Keep | Drop:
    return Keep()


def _write(part: Part, judged: Iterator[tuple[Document, Keep | Drop, bool]], generated: bool) -> Tally:
    tally, keys = Tally(), _Keys()
    with RowsWriter(part.file("kept")) as kept, RowsWriter(part.file("dropped")) as dropped:
        for document, verdict, again in judged:
            tally.read += 1
            tally.characters_read += len(document.text)
            tally.repeated_ids += again
            if isinstance(verdict, Drop):
                tally.dropped[verdict.reason] += 1
                tally.dropped_characters[verdict.reason] += len(document.text)
                dropped.add(dropped_row(document, verdict.reason, verdict.scores))
                continue
            document = verdict.changed or document
            kept.add(_row(document, verdict))
            # Generated problems are split by their keys, before they are rendered: all of these are for training.
            keys.add(text_key(document.text), 1.0 if generated else uniform_hash(document.family), len(document.text))
            tally.kept += 1
    keys.save(part)
    return tally


class _Keys:
    """The keys of a part's kept documents, in little memory."""

    def __init__(self) -> None:
        self._done: list[np.ndarray] = []
        self._rows: list[tuple[tuple[int, int], float, int]] = []

    def add(self, key: tuple[int, int], place: float, characters: int) -> None:
        self._rows.append((key, place, characters))
        if len(self._rows) == _KEYS_AT_ONCE:
            self._done.append(np.array(self._rows, KEYS))
            self._rows = []

    def save(self, part: Part) -> None:
        path = part.file("keys.npy")
        with path.open("wb") as file:
            np.save(file, np.concatenate([*self._done, np.array(self._rows, KEYS)]), allow_pickle=False)


def _row(document: Document, verdict: Keep) -> dict[str, Any]:
    """A kept document as JSON, without what is not known of it."""
    row: dict[str, Any] = {"id": document.id, "source": document.source, "text": document.text}
    for name in ("parent", "url", "license", "language"):
        if value := getattr(document, name):
            row[name] = value
    if document.metadata:
        row["metadata"] = dict(document.metadata)
    if verdict.scores:
        row["scores"] = rounded(verdict.scores)
    return row


def rounded(scores: Any) -> dict[str, float]:
    """Six digits: enough to compare with a threshold, and short."""
    return {name: float(f"{value:.6g}") for name, value in scores.items()}


def dropped_row(document: Document, reason: str, scores: Any = None) -> dict[str, Any]:
    """What is kept of a dropped document for the audit."""
    row: dict[str, Any] = {"id": document.id, "source": document.source, "reason": reason, "text": document.text[:SHOWN]}
    return {**row, "scores": rounded(scores)} if scores else row


def _from_its_first_line(document: Document) -> Document:
    """Without leading empty lines: users of a text's first characters, such as scores and filters, expect words there. The
    first line keeps its indentation, which is significant in code."""
    text = _EMPTY_LINES.sub("", document.text)
    return document if text == document.text else replace(document, text=text)
