"""One attempt at a stage, and the services it may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lehr.artifacts import incidents
from lehr.artifacts.ledger import Entry, Spent, total
from lehr.artifacts.ledger_writer import LedgerWriter
from lehr.runtime.errors import LehrError
from lehr.runtime.ports import Clock, FencingToken, NullPower, NullTracker, Power, Sampler, Store, SystemClock, Tracker, itself
from lehr.runtime.rank_environment import hosts


@dataclass(frozen=True)
class StageContext:
    """The services that a stage may use, through ports."""

    store: Store
    tracker: Tracker = field(default_factory=NullTracker)
    power: Power = field(default_factory=NullPower)
    clock: Clock = field(default_factory=SystemClock)
    fetch: Callable[[str], Path] = Path  # address of an artifact, of this run or another -> a local folder with it
    serve: Callable[[Any], Sampler] = itself  # LanguageModel -> its sampler; pickled for every rank


class Attempt:
    """One attempt at the stage `name`. `out` belongs to this attempt and becomes the artifact; `scratch` survives kills until
    then. `fencing` is checked before anything is published. `ledger` counts the cost from now on."""

    def __init__(self, name: str, scratch: Path, context: StageContext, fencing: FencingToken) -> None:
        self.name, self.scratch, self.tracker, self.fencing = name, scratch, context.tracker, fencing
        self.serve = context.serve
        self.out = scratch / f"out-{fencing.number}"  # its own: an older attempt may still be writing
        self.context = context
        self.ledger = LedgerWriter(context.power, context.clock, scratch, fencing)
        self._on_ranks = False

    def log(self, text: str) -> None:
        """Note `text` in the trackers, and record it for the artifact's logs over all attempts."""
        self.tracker.note(f"{self.name}: {text}")
        incidents.record(self.scratch, f"{self.name}: {text}")

    def power_on_ranks(self) -> Power:
        """For the stage's work on other ranks, whose machines count too."""
        self._on_ranks = True
        return self.context.power

    def spent(self) -> Spent:
        """The cost over all attempts and machines so far; a killed attempt counts up to its last entry in the ledger. What is
        damaged counts as nothing, and is said: a cost must not fail a stage."""
        others, missing = self._others(hosts()) if self._on_ranks else ([], [])
        earlier, damaged = self._earlier()
        own = self.ledger.current()  # last: waiting for the others took energy too
        if damaged:
            self.log(f"{', '.join(damaged)}: damaged; the cost of an earlier attempt is lost")
        found = total([own, *others, *earlier])
        return replace(found, gaps=(*found.gaps, *missing, *(f"{name} was damaged" for name in damaged)))

    def _others(self, machines: int) -> tuple[list[Entry], list[str]]:
        """Other ranks' entries of this attempt, and what is missing of them."""
        try:
            found = self.ledger.others(machines)
        except (LehrError, OSError) as error:
            return [], [f"other machines could not be asked ({error})"]
        gone = machines - len({entry.group for entry in found} | {0})
        late = [f"{entry.host}: counted up to {entry.seconds:.0f} s after it began" for entry in found if not entry.ended]
        return found, [*late, *([f"{gone} of {machines} machines did not count"] if gone > 0 else [])]

    def _earlier(self) -> tuple[list[Entry], list[str]]:
        try:
            return self.ledger.earlier()
        except (LehrError, OSError) as error:
            return [], [str(error)]

    def saved(self) -> None:
        """Called after every save: the cost so far is recorded beside it."""
        self.ledger.soon()
