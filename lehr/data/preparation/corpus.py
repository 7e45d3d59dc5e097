"""A corpus from its sources: read and filtered part by part, compared as a whole, written part by part.

Nothing but keys of documents is held in memory for all of them; texts lie in the scratch folder between the passes. Each part's
work is a function of the part, the recipe and what was compared, so its bytes do not depend on the number of processes, on the
order of work, or on kills: what was done before one is found again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lehr.config.data import Data
from lehr.config.deduplication import WHERE
from lehr.config.sources import ExternalSource, FilesSource, SyntheticSource
from lehr.data.damage import Damage
from lehr.data.document import Document, write_jsonl
from lehr.data.joins.choice import check as check_engine
from lehr.data.preparation.compared import Compared, Passes, Watch
from lehr.data.preparation.contamination import decontaminate, rows_of
from lehr.data.preparation.duplicates import deduplicate
from lehr.data.preparation.filtering import FilterPart
from lehr.data.preparation.funnel import SourceFunnel, check, count, funnels
from lehr.data.preparation.parts import Part, Tally, keys_of
from lehr.data.preparation.splitting import GONE, Shares, split
from lehr.data.preparation.writing import WritePart, join
from lehr.data.readers import inputs
from lehr.runtime.errors import UserError
from lehr.runtime.paths import joined

__all__ = ["Watch", "prepare_corpus"]
Synthetic = Callable[[str, SyntheticSource], Iterable[Document]]
_PASSES = 3  # over every part
_NOBODY = Watch()


def prepare_corpus(
    config: Data,
    evaluation_texts: Mapping[str, Sequence[str]],
    synthetic: Synthetic,
    out: Path,
    scratch: Path,
    watch: Watch = _NOBODY,
) -> dict[str, SourceFunnel]:
    """Filter, deduplicate, split and decontaminate all sources, and write the kept and the dropped documents.

    Writes out/documents/SOURCE.jsonl.gz (training), out/dev.jsonl.gz and out/held_out.jsonl.gz (real documents held back),
    out/dropped.jsonl.gz, out/funnel.json, and out/contamination.jsonl.gz: which document held which evaluation example.
    Training documents are checked against `evaluation_texts` (task -> texts) and against the held-back documents. `scratch`
    keeps what is done over kills, and is as it was at the end. Raises UserError for damaged input and for a source of which
    nothing is left.
    """
    folder = scratch / f"corpus-{_fingerprint(config)}"
    folder.mkdir(parents=True, exist_ok=True)
    check_engine(config.deduplication)
    parts, damage = _parts(config, folder)
    passes = Passes(config, parts, watch, _PASSES * len(parts))
    tallies = _filtered(passes, synthetic, damage)
    corpus = _compared(passes, tallies, folder, out)
    watch.note(f"{len(corpus.fates):,} documents passed the filters; {corpus.gone:,} of them are copies")
    contaminated = decontaminate(corpus, evaluation_texts, passes, folder / "index")
    found = funnels(corpus, damage)
    check(found)
    _written(corpus, out, passes)
    write_jsonl(out / "contamination.jsonl.gz", rows_of(corpus, contaminated, evaluation_texts))
    (out / "funnel.json").write_text(json.dumps({name: f.row() for name, f in found.items()}, indent=1), encoding="utf-8")
    count(corpus)
    shutil.rmtree(folder)
    return found


def _fingerprint(config: Data) -> str:
    """Of the recipe's section: files of another one in the same scratch folder are not those of this one."""
    said = config.model_dump_json(exclude={"processes": True, "mixes": True, "deduplication": set(WHERE)})
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _parts(config: Data, folder: Path) -> tuple[list[Part], dict[str, Damage]]:
    """The parts of all sources, and what was damaged in listing each source's files."""
    found, damage = list[Part](), dict[str, Damage]()
    for name, source in config.sources.items():
        if isinstance(source, ExternalSource):
            what = f"source {name!r} must be supplied: {source.supply}"
            raise UserError(what, where=source.uri, remedy="make it one of kind files")
        if isinstance(source, FilesSource):
            damage[name] = Damage(stops=source.damaged == "stop")
            found += [Part(len(found) + i, name, source, each, folder) for i, each in enumerate(inputs(source, damage[name]))]
        else:
            found.append(Part(len(found), name, source, None, folder))
    return found, damage


def _filtered(passes: Passes, synthetic: Synthetic, damage: Mapping[str, Damage]) -> dict[int, Tally]:
    """The first pass. Generators run in this process: they are fast, and know what the stage gives them."""
    config, parts, real = passes.config, passes.parts, list[FilterPart]()
    for task in (FilterPart(part, config) for part in parts):
        source = task.part.source
        if not isinstance(source, SyntheticSource):
            real.append(task)
            continue
        if not task.done():
            passes.watch.note(f"reading {task.part.name}")
            task(synthetic(task.part.name, source))
        passes.one()
    passes.run(real)
    tallies = {part.number: Tally.load(part.file("tally.json")) for part in parts}
    for name in config.sources:
        mine = [tallies[part.number] for part in parts if part.name == name]
        if again := sum(tally.repeated_ids for tally in mine):
            what = "documents repeat an earlier document's id; `lehr lookup` treats those of one id as one"
            passes.watch.note(f"{name}: {again:,} {what}")
        listed = damage[name].counts.total() if name in damage else 0
        damaged = listed + sum(tally.damaged.total() for tally in mine)
        if damaged:
            passes.watch.note(f"{name}: {damaged:,} damaged rows or files were passed over; `lehr data funnel` says which")
        if not any(tally.read for tally in mine):
            passed = f": {damaged:,} damaged rows or files were passed over" if damaged else ""
            remedy = "add documents to it, or remove it from the recipe"
            where = getattr(config.sources[name], "path", "")
            raise UserError(f"source {name!r} is empty{passed}", where=where, remedy=remedy)
    return tallies


def _compared(passes: Passes, tallies: dict[int, Tally], folder: Path, out: Path) -> Compared:
    """Duplicates over all sources, then the splits: a copy of a held-back document must not be trained on."""
    config, parts = passes.config, passes.parts
    corpus = Compared(config, parts, tallies, keys_of(parts))
    deduplicate(corpus, folder / "joins", out / "signatures")
    shares = Shares(config.dev_share, config.held_out_share, config.most_held_back)
    corpus.fates["split"] = split(corpus.keys["place"], corpus.fates["split"] != GONE, shares)
    return corpus


def _written(corpus: Compared, out: Path, passes: Passes) -> None:
    for part, numbers in corpus.spans():
        np.save(part.file("fates.npy"), corpus.fates[numbers], allow_pickle=False)
    passes.run([WritePart(part, tuple(corpus.reasons), corpus.rows) for part in corpus.parts])
    for name in corpus.config.sources:
        join([part for part in corpus.parts if part.name == name], "train", joined(out / "documents", name, ".jsonl.gz"))
    for label in ("dev", "held_out"):
        join(corpus.parts, label, out / f"{label}.jsonl.gz")
    join(corpus.parts, "dropped.gz", out / "dropped.jsonl.gz")
