"""A corpus from its sources: read and filtered part by part, compared as a whole, written part by part.

Nothing but keys of documents is held in memory for all of them; texts lie in the scratch folder between the passes. Each part's
work is a function of the part, the recipe and what was compared, so its bytes do not depend on the number of processes, on the
order of work, or on kills: what was done before one is found again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lehr.config.data import Data
from lehr.config.sources import SyntheticSource
from lehr.data.damage import Damage
from lehr.data.document import Document, write_jsonl
from lehr.data.joins.choice import check as check_engine
from lehr.data.leaks import LEAKS
from lehr.data.preparation.compared import Compared, Passes, Watch
from lehr.data.preparation.contamination import Contamination, decontaminate, index_of
from lehr.data.preparation.duplicates import deduplicate
from lehr.data.preparation.filtering import FilterPart
from lehr.data.preparation.funnel import SourceFunnel, check, count, funnels
from lehr.data.preparation.pace import FILTER, OVERLAP, STEPS, WRITE
from lehr.data.preparation.parts import Part, Tally, keys_of, save_array
from lehr.data.preparation.shares import folder_of, parts_of, save_needs, tasks_of
from lehr.data.preparation.splitting import GONE, Shares, split
from lehr.data.preparation.writing import join
from lehr.runtime.errors import UserError
from lehr.runtime.paths import joined

__all__ = ["Watch", "prepare_corpus", "prepare_until"]
Synthetic = Callable[[str, SyntheticSource], Iterable[Document]]
SIGNATURES = "signatures"
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
    run = _Run(config, evaluation_texts, synthetic, folder_of(config, scratch), watch)
    run.filter()
    run.compare()
    contaminated = run.decontaminate()
    watch.note(contaminated.said())
    found = funnels(run.corpus, run.damage)
    check(found)
    run.write(out)
    write_jsonl(out / LEAKS, contaminated.rows(run.corpus))
    (out / "funnel.json").write_text(json.dumps({name: f.row() for name, f in found.items()}, indent=1), encoding="utf-8")
    count(run.corpus)
    shutil.rmtree(run.folder)
    return found


def prepare_until(
    step: str,
    config: Data,
    evaluation_texts: Mapping[str, Sequence[str]],
    synthetic: Synthetic,
    scratch: Path,
    watch: Watch = _NOBODY,
) -> None:
    """All that comes before the pass `step` over the parts: whoever has shares of it (`run_share`) may begin. What others have
    done of earlier passes is found. Raises as `prepare_corpus` does."""
    run = _Run(config, evaluation_texts, synthetic, folder_of(config, scratch), watch)
    if step == FILTER:
        run.filter(generators=True)
        return
    run.filter()
    run.compare()
    if step == OVERLAP:
        run.index()
        return
    run.decontaminate()
    check(funnels(run.corpus, run.damage))
    run.fates()


class _Run:
    """The steps, in order. Those over parts repeat nothing that is done."""

    def __init__(
        self, config: Data, texts: Mapping[str, Sequence[str]], synthetic: Synthetic, folder: Path, watch: Watch
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        check_engine(config.deduplication)
        self.config, self.texts, self.synthetic, self.folder = config, texts, synthetic, folder
        self.parts, self.damage = parts_of(config, folder)
        self.passes = Passes(config, self.parts, watch, len(STEPS) * len(self.parts))

    def filter(self, *, generators: bool = False) -> None:
        """The first pass; with `generators` only what they make, which takes this process: they know what the stage gives
        them."""
        real = list[FilterPart]()
        for task in (FilterPart(part, self.config) for part in self.parts):
            source = task.part.source
            if not isinstance(source, SyntheticSource):
                real.append(task)
                continue
            if not task.done():
                self.passes.watch.note(f"reading {task.part.name}")
                task(self.synthetic(task.part.name, source))
            self.passes.one()
        if not generators:
            self.passes.run(FILTER, real)
            self.tallies = {part.number: Tally.load(part.file("tally.json")) for part in self.parts}
            _not_empty(self.config, self.parts, self.tallies, self.damage, self.passes.watch.note)

    def compare(self) -> None:
        """Duplicates over all sources, then the splits: a copy of a held-back document must not be trained on."""
        config, path = self.config, self.folder / "compared.npz"
        self.corpus = Compared(config, self.parts, self.tallies, keys_of(self.parts))
        if not path.is_file():
            deduplicate(self.corpus, self.folder / "joins", self.folder / SIGNATURES)
            shares = Shares(config.dev_share, config.held_out_share, config.most_held_back)
            alive = self.corpus.fates["split"] != GONE
            self.corpus.fates["split"] = split(self.corpus.keys["place"], alive, shares)
            self.corpus.save(path)
        self.corpus.load(path)
        gone = f"{self.corpus.gone:,} of them are copies"
        self.passes.watch.note(f"{len(self.corpus.fates):,} documents passed the filters; {gone}")

    def index(self) -> None:
        """What the second pass needs: the index, and each part's training documents."""
        index_of(self.corpus, self.texts, self.folder)

    def decontaminate(self) -> Contamination:
        return decontaminate(self.corpus, self.texts, self.passes, self.folder)

    def fates(self) -> None:
        """What the last pass needs: what becomes of each part's documents."""
        for part, numbers in self.corpus.spans():
            save_array(part.file("fates.npy"), self.corpus.fates[numbers])
        save_needs(self.folder, WRITE, reasons=self.corpus.reasons, rows=self.corpus.rows)

    def write(self, out: Path) -> None:
        self.fates()
        self.passes.run(WRITE, tasks_of(WRITE, self.config, self.parts, self.folder))
        for name in self.config.sources:
            join([part for part in self.parts if part.name == name], "train", joined(out / "documents", name, ".jsonl.gz"))
        for label in ("dev", "held_out"):
            join(self.parts, label, out / f"{label}.jsonl.gz")
        join(self.parts, "dropped.gz", out / "dropped.jsonl.gz")
        if (self.folder / SIGNATURES).is_dir():
            shutil.copytree(self.folder / SIGNATURES, out / SIGNATURES)


def _not_empty(
    config: Data,
    parts: Sequence[Part],
    tallies: Mapping[int, Tally],
    damage: Mapping[str, Damage],
    note: Callable[[str], None],
) -> None:
    """Note what of a source was repeated or passed over. Raises UserError for one in which nothing was read."""
    for name in config.sources:
        mine = [tallies[part.number] for part in parts if part.name == name]
        if again := sum(tally.repeated_ids for tally in mine):
            note(f"{name}: {again:,} documents repeat an earlier document's id; `lehr lookup` treats those of one id as one")
        listed = damage[name].counts.total() if name in damage else 0
        damaged = listed + sum(tally.damaged.total() for tally in mine)
        if damaged:
            note(f"{name}: {damaged:,} damaged rows or files were passed over; `lehr data funnel` says which")
        if not any(tally.read for tally in mine):
            passed = f": {damaged:,} damaged rows or files were passed over" if damaged else ""
            remedy = "add documents to it, or remove it from the recipe"
            where = getattr(config.sources[name], "path", "")
            raise UserError(f"source {name!r} is empty{passed}", where=where, remedy=remedy)
