"""The port through which a run asks for its energy, and what a meter answers: joules by source and device, and what is missing
from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

NONE = "none"  # the source where no meter ran
SOURCES = ("nvml", "nvml_sampled", "rapl", "estimated")  # exact ones first; a source outside of it comes last


def _ordered(sources: Iterable[str]) -> list[str]:
    found = set(sources)
    return [*(source for source in SOURCES if source in found), *sorted(found - set(SOURCES))]


def label(sources: Iterable[str]) -> str:
    """One source's name, or several joined by `+`, exact ones first: `nvml+estimated`."""
    return "+".join(_ordered(set(sources) - {NONE})) or NONE


def added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Joules by source, summed, exact sources first."""
    found: dict[str, float] = {}
    for one in parts:
        for source, joules in one.items():
            found[source] = found.get(source, 0.0) + joules
    return {source: found[source] for source in _ordered(found)}


@dataclass(frozen=True)
class Drawn:
    """What a meter has counted since it was made. `parts` holds joules by (source, device); `gaps` says what it cannot count
    now, `events` what happened to its counters, oldest first."""

    parts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    @property
    def joules(self) -> float:
        return sum(self.parts.values())

    def since(self, before: Drawn) -> Drawn:
        """What was counted after `before`, an earlier value of the same meter."""
        passed = {key: joules - before.parts.get(key, 0.0) for key, joules in self.parts.items()}
        parts = {key: joules if math.isfinite(joules) and joules > 0 else 0.0 for key, joules in passed.items()}
        return Drawn(parts, self.gaps, self.events[len(before.events) :])


class Power(Protocol):
    """The energy that this run draws on this machine; `source` says what measured it (lehr.runtime.energy.label)."""

    source: str

    def joules(self) -> float:
        """So far, with what `elsewhere` added. Never decreases, never waits: any thread may call it."""
        ...

    def drawn(self) -> Drawn:
        """So far, on this machine, read for this call; an earlier reading where a driver does not answer in time."""
        ...

    def elsewhere(self, joules: float) -> None:
        """Add what other machines of the run have drawn since the last call."""
        ...

    def on_rank(self) -> Power | None:
        """A copy of a `Power` reaches a launcher's other ranks, which call this: the meter of what they themselves must count,
        None where another rank of their machine counts it."""
        ...


class NullPower:
    source = NONE

    def joules(self) -> float:
        return 0.0

    def drawn(self) -> Drawn:
        return Drawn()

    def elsewhere(self, joules: float) -> None:
        return None

    def on_rank(self) -> Power | None:
        return None
