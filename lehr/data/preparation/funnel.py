"""How many documents of each source were kept, and why the others were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lehr.config.sources import SyntheticSource
from lehr.data.damage import Damage
from lehr.data.preparation.compared import Compared
from lehr.data.preparation.parts import Tally
from lehr.data.preparation.splitting import GONE, NAMES
from lehr.runtime.counters import declare
from lehr.runtime.errors import Bug, UserError

CONTAMINATES = "contaminates"
DOCUMENTS, CHARACTERS = declare("documents", ("outcome",)), declare("document_characters", ("outcome",))


@dataclass
class SourceFunnel:
    """The counts of one source's documents after chunking: read = train + dev + held_out + dropped.

    `review` is the source's clearance, as the recipe has it; `damage` what could not be read and was passed over."""

    license: str
    origin: str
    read: int = 0
    train: int = 0
    dev: int = 0
    held_out: int = 0
    characters_read: int = 0
    characters_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    damage: Damage = field(default_factory=Damage)
    review: dict[str, Any] | None = None

    @property
    def kept(self) -> int:
        return self.train + self.dev + self.held_out

    def add(self, tally: Tally) -> None:
        """Count what a part's first pass read, dropped and passed over."""
        self.read += tally.read
        self.characters_read += tally.characters_read
        self.dropped += tally.dropped
        self.damage.add(Damage(counts=tally.damaged, first=tally.first_damage, skipped=tally.skipped))

    def row(self) -> dict[str, Any]:
        """As funnel.json has it."""
        row = {k: v for k, v in vars(self).items() if k not in ("dropped", "damage", "review")} | {"kept": self.kept}
        row["dropped"] = dict(sorted(self.dropped.items()))
        if self.damage.counts or self.damage.skipped:
            row["passed_over"] = self.damage.row()
        return row | ({"review": self.review} if self.review else {})


def funnels(corpus: Compared, damage: Mapping[str, Damage]) -> dict[str, SourceFunnel]:
    """Each source's. `damage` was found in listing its files."""
    found = dict[str, SourceFunnel]()
    for part, numbers in corpus.spans():
        source = part.source
        origin = f"generator {source.generator}" if isinstance(source, SyntheticSource) else getattr(source, "origin", "")
        if part.name not in found:
            review = source.review.model_dump() if source.review else None
            found[part.name] = SourceFunnel(source.license, origin, review=review)
            if part.name in damage:
                found[part.name].damage.add(damage[part.name])
        funnel, tally = found[part.name], corpus.tallies[part.number]
        funnel.add(tally)
        fates, characters = corpus.fates[numbers], corpus.keys["characters"][numbers]
        for split, label in NAMES.items():
            setattr(funnel, label, getattr(funnel, label) + int(np.count_nonzero(fates["split"] == split)))
        gone = fates["split"] == GONE
        funnel.characters_kept += int(characters[~gone].sum())
        for reason, times in enumerate(np.bincount(fates["reason"][gone], minlength=len(corpus.reasons)).tolist()):
            if times:
                funnel.dropped[corpus.reasons[reason]] += times
    return found


def check(found: Mapping[str, SourceFunnel]) -> None:
    """Raises Bug unless kept and dropped add up to read, and UserError for a source of which nothing is left to train on."""
    for name, funnel in found.items():
        if funnel.kept + funnel.dropped.total() != funnel.read:
            raise Bug(f"source {name}: read {funnel.read}, kept {funnel.kept}, dropped {funnel.dropped.total()}")
        if not funnel.train:
            reasons = ", ".join(f"{reason} {times}" for reason, times in funnel.dropped.most_common(3))
            what = f"nothing is left of source {name!r} after the filters ({reasons})"
            raise UserError(what, remedy="loosen data.filters, or remove the source")


def count(corpus: Compared) -> None:
    """Add to the counts of this process. A document that is dropped after it was kept, because an evaluation has its text,
    counts as both."""
    for tally in corpus.tallies.values():
        for reason, times in tally.dropped.items():
            _add(reason, times, tally.dropped_characters[reason])
    characters, fates = corpus.keys["characters"], corpus.fates
    for number, reason in enumerate(corpus.reasons):
        mine = (fates["split"] == GONE) & (fates["reason"] == number)
        times, length = int(np.count_nonzero(mine)), int(characters[mine].sum())
        _add(reason, times, length)
        if reason.startswith(CONTAMINATES):
            _add("kept", times, length)
    kept = fates["split"] != GONE
    _add("kept", int(np.count_nonzero(kept)), int(characters[kept].sum()))


def _add(reason: str, documents: int, characters: int) -> None:
    if documents:
        outcome = "contaminated" if reason.startswith(CONTAMINATES) else reason.replace(" ", "_")
        DOCUMENTS.add(documents, outcome=outcome)
        CHARACTERS.add(characters, outcome=outcome)
