"""A corpus from its sources: read and filtered part by part, compared as a whole, written part by part.

Nothing but keys of documents is held in memory for all of them; texts lie in the scratch folder between the passes. Each part's
work is a function of the part, the recipe and what was compared, so its bytes do not depend on the number of processes, on the
order of work, or on kills: what was done before one is found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lehr.config.data import Data
from lehr.config.sources import ExternalSource, FilesSource, SyntheticSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.document import Document
from lehr.data.preparation import workers
from lehr.data.preparation.filtering import FilterPart
from lehr.data.preparation.funnel import CONTAMINATES, SourceFunnel, count, outcome
from lehr.data.preparation.overlap import FindOverlap, overlaps
from lehr.data.preparation.parts import Part, Tally, keys_of, starts_of
from lehr.data.preparation.rows import Rows
from lehr.data.preparation.splitting import DEV, GONE, HELD_OUT, NAMES, TRAIN, Shares, split
from lehr.data.preparation.writing import FATES, WritePart, join
from lehr.data.readers import inputs
from lehr.runtime.errors import UserError
from lehr.runtime.paths import joined

Synthetic = Callable[[str, SyntheticSource], Iterable[Document]]
EXACT = "exact duplicate"
_SMALL = 64 << 20  # bytes of input below which starting processes costs more than they save


@dataclass(frozen=True)
class Watch:
    """Who is told of the progress: `note` of each step, `progress` of the parts done among all passes."""

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass
class _Corpus:
    """What is known of all documents while they are compared. `fates[i]` is document number i's, and `tallies` each part's."""

    config: Data
    parts: list[Part]
    tallies: dict[int, Tally]
    keys: np.ndarray
    fates: np.ndarray
    reasons: list[str] = field(default_factory=list)

    def drop(self, numbers: np.ndarray | Sequence[int], reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.fates["split"][numbers] = GONE
        self.fates["reason"][numbers] = self.reasons.index(reason)

    @property
    def starts(self) -> np.ndarray:
        return starts_of(self.tallies, self.parts)


def prepare_corpus(
    config: Data,
    evaluation_texts: Mapping[str, Sequence[str]],
    synthetic: Synthetic,
    out: Path,
    scratch: Path,
    watch: Watch = Watch(),
) -> dict[str, SourceFunnel]:
    """Filter, deduplicate, split and decontaminate all sources, and write the kept and the dropped documents.

    Writes out/documents/SOURCE.jsonl.gz (training), out/dev.jsonl.gz and out/held_out.jsonl.gz (real documents held back),
    out/dropped.jsonl.gz and out/funnel.json. Training documents are checked against `evaluation_texts` (task -> texts) and
    against the held-back documents. `scratch` keeps what is done over kills, and is empty at the end. Raises UserError for
    damaged input and for a source of which nothing is left.
    """
    folder = scratch / f"corpus-{_fingerprint(config)}"
    folder.mkdir(parents=True, exist_ok=True)
    parts = _parts(config, folder)
    steps = _Steps(watch, 3 * len(parts))
    tallies = _filtered(config, parts, synthetic, steps)
    corpus = _compared(config, parts, tallies)
    steps.watch.note(f"{len(corpus.fates):,} documents passed the filters; {_gone(corpus):,} of them repeat an earlier one")
    _decontaminate(corpus, evaluation_texts, folder, steps)
    funnel = _funnel(corpus)
    _check(funnel)
    _written(corpus, out, steps)
    (out / "funnel.json").write_text(json.dumps({name: f.row() for name, f in funnel.items()}, indent=1), encoding="utf-8")
    count(_outcomes(corpus))
    shutil.rmtree(folder)
    return funnel


class _Steps:
    """Counts parts over all passes, for the display."""

    def __init__(self, watch: Watch, total: int) -> None:
        self.watch, self._total, self._done = watch, total, 0
        watch.progress(0, total)

    def one(self, _: object = None) -> None:
        self._done += 1
        self.watch.progress(self._done, self._total)


def _fingerprint(config: Data) -> str:
    """Of the recipe's section: files of another one in the same scratch folder are not those of this one."""
    return hashlib.sha256(config.model_dump_json(exclude={"processes", "mixes"}).encode()).hexdigest()[:16]


def _parts(config: Data, folder: Path) -> list[Part]:
    found: list[Part] = []
    for name, source in config.sources.items():
        if isinstance(source, ExternalSource):
            what = f"source {name!r} must be supplied: {source.supply}"
            raise UserError(what, where=source.uri, remedy="make it one of kind files")
        given = inputs(source) if isinstance(source, FilesSource) else [None]
        found += [Part(len(found) + i, name, source, each, folder) for i, each in enumerate(given)]
    return found


def _workers(config: Data, parts: Sequence[Part]) -> int:
    size = sum(part.input.size for part in parts if part.input is not None)
    return config.processes or (len(os.sched_getaffinity(0)) if size >= _SMALL else 1)


def _filtered(config: Data, parts: list[Part], synthetic: Synthetic, steps: _Steps) -> dict[int, Tally]:
    """The first pass. Generators run in this process: they are fast, and know what the stage gives them."""
    tasks = [FilterPart(part, config) for part in parts]
    for task in tasks:
        source = task.part.source
        if isinstance(source, SyntheticSource):
            if not task.done():
                steps.watch.note(f"reading {task.part.name}")
                task(synthetic(task.part.name, source))
            steps.one()
    real = [task for task in tasks if task.part.input is not None]
    workers.run_all(real, _workers(config, parts), steps.one)
    tallies = {part.number: Tally.load(part.file("tally.json")) for part in parts}
    for name in config.sources:
        mine = [tallies[part.number] for part in parts if part.name == name]
        if again := sum(tally.repeated_ids for tally in mine):
            steps.watch.note(f"{name}: {again:,} documents repeat an earlier document's id; `lehr lookup` treats them as one")
        if damaged := sum(tally.damaged.total() for tally in mine):
            steps.watch.note(f"{name}: {damaged:,} damaged rows or files were passed over; funnel.json says which")
        if not any(tally.read for tally in mine):
            raise UserError(f"source {name!r} is empty", remedy="add documents to it, or remove it from the recipe")
    return tallies


def _compared(config: Data, parts: list[Part], tallies: dict[int, Tally]) -> _Corpus:
    """Duplicates over all sources, then the splits: a copy of a held-back document must not be trained on."""
    keys = keys_of(parts)
    corpus = _Corpus(config, parts, tallies, keys, np.zeros(len(keys), FATES))
    corpus.drop(_later(keys["key"]), EXACT)
    shares = Shares(config.dev_share, config.held_out_share, config.most_held_back)
    corpus.fates["split"] = split(keys["place"], corpus.fates["split"] != GONE, shares)
    return corpus


def _later(keys: np.ndarray) -> np.ndarray:
    """The numbers of documents whose key (uint64, 2 of each) an earlier one has."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys the first in order of reading comes first
    ordered = keys[order]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    later: np.ndarray = order[1:][same]
    return later


def _gone(corpus: _Corpus) -> int:
    return int(np.count_nonzero(corpus.fates["split"] == GONE))


def _decontaminate(corpus: _Corpus, evaluation_texts: Mapping[str, Sequence[str]], folder: Path, steps: _Steps) -> None:
    """Drop training documents that share too much with an evaluation example or a held-back document."""
    wish = corpus.config.decontamination
    held_back = {f"{NAMES[name]} documents": _texts(corpus, name) for name in (DEV, HELD_OUT)}
    hits = dict.fromkeys(evaluation_texts, wish.hits) | dict.fromkeys(held_back, wish.held_back_hits)
    index = Decontaminator({**evaluation_texts, **held_back}, wish.ngram, hits)
    place = folder / "index"
    place.mkdir(exist_ok=True)
    index.save(place)
    starts = corpus.starts
    for part, start, end in zip(corpus.parts, starts, starts[1:], strict=False):
        rows = np.flatnonzero(corpus.fates["split"][start:end] == TRAIN)
        np.save(part.file("train.npy"), rows, allow_pickle=False)
    workers.run_all([FindOverlap(part, place) for part in corpus.parts], _workers(corpus.config, corpus.parts), steps.one)
    seen = np.zeros(len(index), np.int64)
    for part in corpus.parts:
        for found in overlaps(part):
            seen[np.unique(found.shared)] += 1
    forgotten = index.forget_common(seen, wish.boilerplate_documents, held_back)
    steps.watch.note(f"{forgotten:,} phrases of held-back documents are boilerplate and do not count as contamination")
    for part, start in zip(corpus.parts, starts, strict=False):
        for found in overlaps(part):
            if task := index.contaminated(found.shared):
                corpus.drop([start + found.row], f"{CONTAMINATES} {task}")


def _texts(corpus: _Corpus, split_: int) -> list[str]:
    """The texts of one of the held-back splits, which are few (`most_held_back`)."""
    texts, starts = list[str](), corpus.starts
    for part, start, end in zip(corpus.parts, starts, starts[1:], strict=False):
        rows = np.flatnonzero(corpus.fates["split"][start:end] == split_)
        texts += [row["text"] for row in Rows(part.file("kept")).at(rows.tolist())]
    return texts


def _funnel(corpus: _Corpus) -> dict[str, SourceFunnel]:
    found, starts = dict[str, SourceFunnel](), corpus.starts
    for part, start, end in zip(corpus.parts, starts, starts[1:], strict=False):
        source = part.source
        origin = f"generator {source.generator}" if isinstance(source, SyntheticSource) else getattr(source, "origin", "")
        review = source.review.model_dump() if source.review else None
        funnel = found.setdefault(part.name, SourceFunnel(source.license, origin, review=review))
        funnel.add(corpus.tallies[part.number])
        fates, characters = corpus.fates[start:end], corpus.keys["characters"][start:end]
        for name, label in NAMES.items():
            setattr(funnel, label, getattr(funnel, label) + int(np.count_nonzero(fates["split"] == name)))
        gone = fates["split"] == GONE
        funnel.characters_kept += int(characters[~gone].sum())
        for reason, times in enumerate(np.bincount(fates["reason"][gone], minlength=len(corpus.reasons)).tolist()):
            if times:
                funnel.dropped[corpus.reasons[reason]] += times
    return found


def _check(funnels: Mapping[str, SourceFunnel]) -> None:
    for name, funnel in funnels.items():
        funnel.check(name)
        if not funnel.train:
            reasons = ", ".join(f"{reason} {times}" for reason, times in funnel.dropped.most_common(3))
            what = f"nothing is left of source {name!r} after the filters ({reasons})"
            raise UserError(what, remedy="loosen data.filters, or remove the source")


def _written(corpus: _Corpus, out: Path, steps: _Steps) -> None:
    starts = corpus.starts
    for part, start, end in zip(corpus.parts, starts, starts[1:], strict=False):
        np.save(part.file("fates.npy"), corpus.fates[start:end], allow_pickle=False)
    tasks = [WritePart(part, tuple(corpus.reasons)) for part in corpus.parts]
    workers.run_all(tasks, _workers(corpus.config, corpus.parts), steps.one)
    for name in corpus.config.sources:
        join([part for part in corpus.parts if part.name == name], "train", joined(out / "documents", name, ".jsonl.gz"))
    for label in ("dev", "held_out"):
        join(corpus.parts, label, out / f"{label}.jsonl.gz")
    join(corpus.parts, "dropped.gz", out / "dropped.jsonl.gz")


def _outcomes(corpus: _Corpus) -> dict[str, tuple[int, int]]:
    """Outcome -> documents, characters."""
    found: dict[str, tuple[int, int]] = {}

    def add(label: str, documents: int, characters: int) -> None:
        before = found.get(label, (0, 0))
        found[label] = (before[0] + documents, before[1] + characters)

    for tally in corpus.tallies.values():
        for reason, times in tally.dropped.items():
            add(outcome(reason), times, tally.dropped_characters[reason])
    characters, fates = corpus.keys["characters"], corpus.fates
    for number, reason in enumerate(corpus.reasons):
        mine = (fates["split"] == GONE) & (fates["reason"] == number)
        add(outcome(reason), int(np.count_nonzero(mine)), int(characters[mine].sum()))
        if reason.startswith(CONTAMINATES):
            add("kept", int(np.count_nonzero(mine)), int(characters[mine].sum()))
    kept = fates["split"] != GONE
    add("kept", int(np.count_nonzero(kept)), int(characters[kept].sum()))
    return found
