"""The preparation of a corpus: every document is either kept, or dropped with a recorded reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lehr.config.data import Data
from lehr.config.sources import JsonlSource, Source, SyntheticSource
from lehr.data.decontaminate import Decontaminator, Shared
from lehr.data.dedup import Deduplicator
from lehr.data.document import Document, chunk, read_jsonl, write_jsonl
from lehr.data.filters import filters
from lehr.data.verdict import Drop, Filter
from lehr.runtime.counters import declare
from lehr.runtime.errors import Bug, UserError
from lehr.runtime.paths import joined
from lehr.runtime.seeds import uniform_hash

Synthetic = Callable[[str, SyntheticSource], Iterable[Document]]
CONTAMINATES = "contaminates"
_SHOWN = 300  # characters of a dropped document kept for the audit
_EMPTY_LINES = re.compile(r"\A(?:[^\S\n]*+\n)++")


DOCUMENTS, CHARACTERS = declare("documents", ("outcome",)), declare("document_characters", ("outcome",))


def count(document: Document, outcome: str) -> None:
    """Count a document. One that is dropped after it was kept, because an evaluation has its text, counts as both."""
    label = "contaminated" if outcome.startswith(CONTAMINATES) else outcome.replace(" ", "_")
    DOCUMENTS.add(1, outcome=label)
    CHARACTERS.add(len(document.text), outcome=label)


@dataclass
class SourceFunnel:
    """The counts of one source's documents after chunking: read = train + dev + held_out + dropped."""

    license: str
    origin: str
    read: int = 0
    train: int = 0
    dev: int = 0
    held_out: int = 0
    characters_read: int = 0
    characters_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        return self.train + self.dev + self.held_out

    def row(self) -> dict[str, Any]:
        fields = {k: v for k, v in vars(self).items() if k != "dropped"}
        return {**fields, "kept": self.kept, "dropped": dict(sorted(self.dropped.items()))}


@dataclass
class _Corpus:
    """The documents that passed the filters, before decontamination."""

    train: dict[str, list[Document]] = field(default_factory=dict)
    back: dict[str, list[Document]] = field(default_factory=lambda: {"dev": [], "held_out": []})
    dropped: list[dict[str, object]] = field(default_factory=list)
    funnel: dict[str, SourceFunnel] = field(default_factory=dict)

    def drop(self, document: Document, reason: str) -> None:
        count(document, reason)
        self.funnel[document.source].dropped[reason] += 1
        self.dropped.append({"id": document.id, "source": document.source, "reason": reason, "text": document.text[:_SHOWN]})


def prepare_corpus(
    config: Data,
    evaluation_texts: Mapping[str, Sequence[str]],
    synthetic: Synthetic,
    out: Path,
    note: Callable[[str], None],
    read: Callable[[int], None] = lambda sources: None,
) -> dict[str, SourceFunnel]:
    """Filter, deduplicate, split and decontaminate all sources, and write the kept and the dropped documents.

    Writes out/documents/SOURCE.jsonl.gz (training), out/dev.jsonl.gz and out/held_out.jsonl.gz (real documents held back),
    out/dropped.jsonl.gz and out/funnel.json. Training documents are checked against `evaluation_texts` (task -> texts) and
    against the held-back documents. `read` is called with the number of sources read so far. Raises UserError for damaged input
    and for a source of which nothing is left.
    """
    corpus, seen, judge = _Corpus(), Deduplicator(), filters(config.filters)
    for number, (name, source) in enumerate(config.sources.items()):
        read(number)
        note(f"reading {name}")
        if again := _filter(corpus, name, source, config, (judge, seen), synthetic):
            note(f"{name}: {again:,} documents repeat an earlier document's id; `lehr lookup` treats those of one id as one")
    read(len(config.sources))
    held_back = {f"{split} documents": [d.text for d in corpus.back[split]] for split in corpus.back}
    hits = dict.fromkeys(evaluation_texts, config.decontamination.hits) | dict.fromkeys(
        held_back, config.decontamination.held_back_hits
    )
    index = Decontaminator({**evaluation_texts, **held_back}, config.decontamination.ngram, hits)
    shared = {name: list(index.shared(d.text for d in documents)) for name, documents in corpus.train.items()}
    every = chain.from_iterable(shared.values())
    forgotten = index.forget_boilerplate(every, config.decontamination.boilerplate_documents, held_back)
    note(f"{forgotten:,} phrases of held-back documents are boilerplate and do not count as contamination")
    _decontaminate(corpus, index, shared)
    _check(corpus)
    for name, documents in corpus.train.items():
        write_jsonl(joined(out / "documents", name, ".jsonl.gz"), _rows(documents))
    for split, documents in corpus.back.items():
        write_jsonl(out / f"{split}.jsonl.gz", _rows(documents))
    write_jsonl(out / "dropped.jsonl.gz", corpus.dropped)
    (out / "funnel.json").write_text(
        json.dumps({name: f.row() for name, f in corpus.funnel.items()}, indent=1), encoding="utf-8"
    )
    return corpus.funnel


def _rows(documents: Iterable[Document]) -> Iterator[dict[str, object]]:
    """Documents as JSON rows; those cut from a longer document have a `parent`."""
    for d in documents:
        row: dict[str, object] = {"id": d.id, "source": d.source, "text": d.text}
        yield {**row, "parent": d.parent} if d.parent else row


def _filter(
    corpus: _Corpus, name: str, source: Source, config: Data, by: tuple[Filter, Deduplicator], synthetic: Synthetic
) -> int:
    """Filter one source into `corpus`; returns the number of documents with the id of an earlier one."""
    real, (judge, seen) = isinstance(source, JsonlSource), by
    documents: Iterable[Document]
    if isinstance(source, JsonlSource):
        documents, origin = read_jsonl(source.path, name), source.origin
    elif isinstance(source, SyntheticSource):
        documents, origin = synthetic(name, source), f"generator {source.generator}"
    else:
        what = f"source {name!r} must be supplied: {source.supply}"
        raise UserError(what, where=source.uri, remedy="make it one of kind jsonl")
    funnel = SourceFunnel(source.license, origin)
    corpus.funnel[name], corpus.train[name] = funnel, []
    ids, again = set[str](), 0
    for whole in documents:
        again += whole.id in ids
        ids.add(whole.id)
        for document in map(_from_its_first_line, chunk(whole, config.chunk_characters)):
            funnel.read += 1
            funnel.characters_read += len(document.text)
            reason = None
            if isinstance(source, JsonlSource):
                verdict = judge(replace(document, text_type=source.text_type))
                reason = verdict.reason if isinstance(verdict, Drop) else None
                document = (None if isinstance(verdict, Drop) else verdict.changed) or document
            # Before the split, over all sources: a copy of a held-back document must not be trained on.
            if reason is None and seen.twin(document.id, document.text) is not None:
                reason = "exact duplicate"
            if reason:
                corpus.drop(document, reason)
            else:
                split = _split(document, config) if real else "train"  # generated problems are split by their keys
                count(document, "kept")
                (corpus.train[name] if split == "train" else corpus.back[split]).append(document)
    return again


def _from_its_first_line(document: Document) -> Document:
    """Without leading empty lines: users of a text's first characters, such as scores and filters, expect words there. The
    first line keeps its indentation, which is significant in code."""
    text = _EMPTY_LINES.sub("", document.text)
    return document if text == document.text else replace(document, text=text)


def _split(document: Document, config: Data) -> str:
    """The split by hash of the parent document: chunks of one text are never in different splits."""
    place = uniform_hash(document.family)
    if place < config.held_out_share:
        return "held_out"
    return "dev" if place < config.held_out_share + config.dev_share else "train"


def _decontaminate(corpus: _Corpus, index: Decontaminator, shared: Mapping[str, Sequence[Shared]]) -> None:
    for name, documents in corpus.train.items():
        kept = []
        for document, found in zip(documents, shared[name], strict=True):
            task = index.contaminated(found)
            if task is None:
                kept.append(document)
            else:
                corpus.drop(document, f"{CONTAMINATES} {task}")
        corpus.train[name] = kept


def _check(corpus: _Corpus) -> None:
    """Count the kept documents. Raises Bug unless kept and dropped add up to read, UserError if a source has none left."""
    for name, documents in corpus.train.items():
        funnel = corpus.funnel[name]
        back = {split: [d for d in ds if d.source == name] for split, ds in corpus.back.items()}
        funnel.train, funnel.dev, funnel.held_out = len(documents), len(back["dev"]), len(back["held_out"])
        funnel.characters_kept = sum(len(d.text) for ds in (documents, *back.values()) for d in ds)
        if funnel.kept + funnel.dropped.total() != funnel.read:
            raise Bug(f"source {name}: read {funnel.read}, kept {funnel.kept}, dropped {funnel.dropped.total()}")
        if not documents:
            reasons = ", ".join(f"{reason} {count}" for reason, count in funnel.dropped.most_common(3))
            raise UserError(
                f"nothing is left of source {name!r} after the filters ({reasons})",
                remedy="loosen data.filters, or remove the source",
            )
