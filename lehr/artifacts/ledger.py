"""The cost ledger of a stage: an entry for each rank that meters, in each attempt, and their sum.

Only its own rank writes an entry, in place of its earlier one, every few seconds; so a killed attempt counts up to there.
Whoever seals the artifact adds all entries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lehr.artifacts.artifact import write_atomic
from lehr.runtime.energy import label

FOLDER = "energy"  # in the scratch
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metered(_Said):
    """What one device drew, in joules."""

    source: str
    device: str
    joules: _Amount


class Entry(_Said):
    """One rank's of one attempt. `group` numbers its machine among the attempt's, `seconds` are since the rank began to count;
    `ended`: nothing more comes of what it counted."""

    attempt: int
    rank: int
    group: int
    host: str
    seconds: _Amount
    metered: tuple[Metered, ...] = ()
    gaps: tuple[str, ...] = ()
    ended: bool = False

    @property
    def name(self) -> str:
        """Its file's."""
        return f"{prefix(self.attempt)}{self.rank}.json"


def prefix(attempt: int) -> str:
    """With which the names of an attempt's entries begin."""
    return f"{attempt}-"


def parse(texts: Mapping[str, str]) -> tuple[list[Entry], list[str]]:
    """Entries by their names, and the names of damaged ones. An entry under another's name is damaged: it would count twice."""
    entries, damaged = list[Entry](), list[str]()
    for name, text in sorted(texts.items()):
        try:
            entry = Entry.model_validate_json(text)
        except ValidationError:
            damaged.append(name)
            continue
        if entry.name == name:
            entries.append(entry)
        else:
            damaged.append(name)
    return entries, damaged


@dataclass(frozen=True)
class Spent:
    """A stage's time and energy over all attempts and machines. `energy` holds joules by source."""

    seconds: float = 0.0
    energy: Mapping[str, float] = field(default_factory=dict)
    machines: int = 0
    attempts: int = 0
    gaps: tuple[str, ...] = ()

    @property
    def joules(self) -> float:
        return sum(self.energy.values())

    @property
    def source(self) -> str:
        return label(self.energy)


def total(entries: Sequence[Entry]) -> Spent:
    """The sum. Ranks that metered one device in the same attempt count it once. An attempt lasts as long as its rank 0 does, or
    as the longest of the others where that entry is lost."""
    led = {entry.attempt: entry.seconds for entry in entries if entry.rank == 0}
    seconds: dict[int, float] = defaultdict(float)
    devices: dict[tuple[int, str, str], float] = defaultdict(float)
    gaps: dict[str, None] = {}
    for entry in entries:
        seconds[entry.attempt] = led.get(entry.attempt, max(seconds[entry.attempt], entry.seconds))
        for one in entry.metered:
            key = (entry.attempt, one.source, one.device)
            devices[key] = max(devices[key], one.joules)
        gaps.update(dict.fromkeys(f"{entry.host}: {gap}" for gap in entry.gaps))
    energy: dict[str, float] = defaultdict(float)
    for (_, source, _), joules in devices.items():
        energy[source] += joules
    machines = {(entry.host, entry.group) for entry in entries}
    return Spent(sum(seconds.values()), dict(energy), len(machines), len(seconds), tuple(gaps))


def write_entry(scratch: Path, name: str, text: str) -> Path:
    """Write an entry's file; returns its path. Raises FileNotFoundError if the scratch is gone, as it is once the stage is
    done."""
    folder = scratch / FOLDER
    folder.mkdir(exist_ok=True)
    write_atomic(folder / name, text)
    return folder / name


def read_entries(scratch: Path, begins: str = "") -> dict[str, str]:
    """The texts of entries by name. One that cannot be read is empty, which nobody takes for an entry."""
    found = {}
    for path in sorted((scratch / FOLDER).glob("*.json")):
        if path.name.startswith(begins):
            try:
                found[path.name] = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                found[path.name] = ""
    return found


def spent_on(texts: Mapping[str, str]) -> Spent:
    """The sum of one ledger's entries; a damaged one counts as nothing, and is a gap."""
    entries, damaged = parse(texts)
    found = total(entries)
    return replace(found, gaps=(*found.gaps, *(f"{name} was damaged" for name in damaged)))
