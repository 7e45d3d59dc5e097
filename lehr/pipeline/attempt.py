"""One attempt at a stage, and the services it may use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.artifacts import incidents
from lehr.artifacts.artifact import write_atomic
from lehr.runtime.ports import Clock, FencingToken, NullPower, NullTracker, Power, Sampler, Store, SystemClock, Tracker, itself


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
    then. `fencing` is checked before anything is published."""

    def __init__(self, name: str, scratch: Path, context: StageContext, fencing: FencingToken) -> None:
        self.name, self.scratch, self.tracker, self.fencing = name, scratch, context.tracker, fencing
        self.serve = context.serve
        self.out = scratch / f"out-{fencing.number}"  # its own: an older attempt may still be writing
        self.context, self._ledger = context, scratch / "cost.json"
        self._began_seconds, self._began_joules = context.clock.seconds(), context.power.joules()
        self._earlier_seconds, self._earlier_joules = self._earlier()

    def _earlier(self) -> tuple[float, float]:
        """Seconds and joules of older attempts. If the ledger is damaged they count as 0: a cost must not fail a stage."""
        if not self._ledger.is_file():
            return 0.0, 0.0
        try:
            spent = json.loads(self._ledger.read_text(encoding="utf-8"))
            return float(spent["seconds"]), float(spent["joules"])
        except (ValueError, TypeError, KeyError, RecursionError):
            self.log(f"{self._ledger}: damaged; the cost of earlier attempts is lost")
            return 0.0, 0.0

    def log(self, text: str) -> None:
        """Note `text` in the trackers, and record it for the artifact's logs over all attempts."""
        self.tracker.note(f"{self.name}: {text}")
        incidents.record(self.scratch, f"{self.name}: {text}")

    def spent(self) -> tuple[float, float]:
        """Seconds and joules over all attempts so far; a killed attempt counts up to its last save."""
        seconds = self._earlier_seconds + self.context.clock.seconds() - self._began_seconds
        return seconds, self._earlier_joules + self.context.power.joules() - self._began_joules

    def saved(self) -> None:
        """Record the cost so far; called after every save."""
        seconds, joules = self.spent()
        write_atomic(self._ledger, json.dumps({"seconds": seconds, "joules": joules}))
