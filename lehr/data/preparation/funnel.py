"""How many documents of each source were kept, and why the others were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.data.preparation.parts import Tally
from lehr.runtime.counters import declare
from lehr.runtime.errors import Bug

CONTAMINATES = "contaminates"
DOCUMENTS, CHARACTERS = declare("documents", ("outcome",)), declare("document_characters", ("outcome",))


def outcome(reason: str) -> str:
    """The label under which a reason is counted: few, whatever the tasks are called."""
    return "contaminated" if reason.startswith(CONTAMINATES) else reason.replace(" ", "_")


@dataclass
class SourceFunnel:
    """The counts of one source's documents after chunking: read = train + dev + held_out + dropped.

    `review` is the source's clearance, as the recipe has it; `damaged` counts rows and files that could not be read and were
    passed over; `examples` says where the first of each is."""

    license: str
    origin: str
    read: int = 0
    train: int = 0
    dev: int = 0
    held_out: int = 0
    characters_read: int = 0
    characters_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    review: dict[str, Any] | None = None

    @property
    def kept(self) -> int:
        return self.train + self.dev + self.held_out

    def add(self, tally: Tally) -> None:
        """Count what a part's first pass read, dropped and passed over."""
        self.read += tally.read
        self.characters_read += tally.characters_read
        self.dropped += tally.dropped
        self.damaged += tally.damaged
        for reason, where in tally.examples.items():
            self.examples.setdefault(reason, where)

    def row(self) -> dict[str, Any]:
        """As funnel.json has it."""
        counted = ("dropped", "damaged", "examples", "review")
        row = {k: v for k, v in vars(self).items() if k not in counted} | {"kept": self.kept}
        row["dropped"] = dict(sorted(self.dropped.items()))
        if self.damaged:
            row["damaged"] = {why: {"count": n, "first": self.examples.get(why, "")} for why, n in sorted(self.damaged.items())}
        return row | ({"review": self.review} if self.review else {})

    def check(self, name: str) -> None:
        """Raises Bug unless kept and dropped add up to read."""
        if self.kept + self.dropped.total() != self.read:
            raise Bug(f"source {name}: read {self.read}, kept {self.kept}, dropped {self.dropped.total()}")


def count(characters: Mapping[str, tuple[int, int]]) -> None:
    """Add to the counts of this process: outcome -> documents, characters. A document that is dropped after it was kept,
    because an evaluation has its text, counts as both."""
    for label, (documents, length) in characters.items():
        DOCUMENTS.add(documents, outcome=label)
        CHARACTERS.add(length, outcome=label)
