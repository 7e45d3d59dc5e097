"""The first pass: documents of one part are read, cut, filtered and written, each with its scores or its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lehr.config.data import Data
from lehr.config.deduplication import Deduplication
from lehr.config.governance import Policy
from lehr.config.sources import FilesSource
from lehr.data.damage import Damage
from lehr.data.dedup import SignatureFile, Signer
from lehr.data.document import Document, chunk
from lehr.data.filters import filters
from lehr.data.preparation.parts import KEYS, Part, Tally, save_array
from lehr.data.preparation.rows import RowsWriter
from lehr.data.readers import read
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.seeds import uniform_hash

SHOWN = 300  # characters of a dropped document kept for the audit
_EMPTY_LINES = re.compile(r"\A(?:[^\S\n]*+\n)++")
_IDS_REMEMBERED = 1 << 20  # hashes of ids: a repeated id beyond so many is not noticed
_AT_ONCE = 512  # documents signed in one call


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
        tally = _write(part, self.config.deduplication, self._judged(documents, judge), given is not None)
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


def _write(part: Part, config: Deduplication, judged: Iterator[tuple[Document, Keep | Drop, bool]], generated: bool) -> Tally:
    tally, batch, places = Tally(), list[tuple[Document, Keep]](), list[np.ndarray]()
    signer = Signer(config)
    with (
        RowsWriter(part.file("kept")) as kept,
        RowsWriter(part.file("dropped")) as dropped,
        SignatureFile(part.file("sig"), signer) as signatures,
    ):

        def finish() -> None:
            signatures.add(_signed(signer, batch, generated))
            # Generated problems are split by their keys, before they are rendered: all of these are for training.
            rows = [(1.0 if generated else uniform_hash(d.family), len(d.text)) for d, _ in batch]
            places.append(np.array(rows, KEYS))
            batch.clear()

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
            tally.kept += 1
            batch.append((document, verdict))
            if len(batch) == _AT_ONCE:
                finish()
        finish()
    save_array(part.file("keys.npy"), np.concatenate(places))
    return tally


def _signed(signer: Signer, batch: Sequence[tuple[Document, Keep]], generated: bool) -> np.ndarray:
    """What deduplication compares. Generated problems repeat each other's words on purpose, and only equal ones are copies."""
    texts, urls = [document.text for document, _ in batch], [document.url for document, _ in batch]
    found = signer.sign(texts, urls, [verdict.scores for _, verdict in batch])
    if generated and signer.fuzzy:
        found["shingles"] = 0
    return found


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
