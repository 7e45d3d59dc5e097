"""The parts of a corpus: each is read, filtered and written by itself, by whichever process is free.

Documents are numbered by part and row, so that whatever compares them comes to the same result in any order of work.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lehr.config.sources import Source
from lehr.data.readers import Input
from lehr.runtime.paths import beside

# Of each kept document: the place of its family in [0, 1), which decides the split, and its length.
KEYS = np.dtype([("place", "<f8"), ("characters", "<i8")])


@dataclass(frozen=True)
class Part:
    """One input of one source; `input` is None for a generator. `folder` holds what was made of it."""

    number: int
    name: str  # of its source
    source: Source
    input: Input | None
    folder: Path

    def file(self, kind: str) -> Path:
        return self.folder / f"{self.number:06d}.{kind}"


@dataclass
class Tally:
    """Counts of one part's documents: read = kept + dropped."""

    read: int = 0
    characters_read: int = 0
    repeated_ids: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_characters: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)  # rows and files passed over, by reason
    first_damage: dict[str, str] = field(default_factory=dict)  # of each, where the first one stands
    skipped: Counter[str] = field(default_factory=Counter)  # what held no document, such as pictures

    def write(self, path: Path) -> None:
        """Last of a part's files: with it the part is done."""
        partial = beside(path)
        partial.write_text(json.dumps(vars(self)), encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Tally:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        counters = {key: Counter(found[key]) for key in ("dropped", "dropped_characters", "damaged", "skipped")}
        return cls(**{**found, **counters})


def save_array(path: Path, array: np.ndarray) -> None:
    """Whole or not at all."""
    partial = beside(path)
    with partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    partial.replace(path)


def keys_of(parts: list[Part]) -> np.ndarray:
    """The keys of all kept documents, in order of part and row."""
    found = [np.load(part.file("keys.npy"), allow_pickle=False) for part in parts]
    return np.concatenate(found) if found else np.zeros(0, KEYS)
