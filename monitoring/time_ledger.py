"""Where the time of a run's machines goes: seconds by category, from which goodput follows.

Time is charged when something is reported: up to then nobody knows what it was. What a step reports of itself (its own time,
the wait for a checkpoint) counts as such, whenever the report comes; the rest of the time between two reports is `idle`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

PRODUCTIVE, REWORK, EVALUATION, CHECKPOINT = "productive", "rework", "evaluation", "checkpoint"
STARTUP, STALLED, IDLE = "startup", "stalled", "idle"
CATEGORIES = (PRODUCTIVE, REWORK, EVALUATION, CHECKPOINT, STARTUP, STALLED, IDLE)

Charge = Callable[[str, str, float], None]  # stage, category, seconds


class TimeLedger:
    """Charges the time since this process began. `age` is how old the process is by now, in seconds."""

    def __init__(self, charge: Charge, age: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self._charge, self._now = charge, now
        self._upto = now() - age
        self._stage, self._category = "", STARTUP  # of the time until the next report, if that does not say otherwise
        self._debt = 0.0  # charged already for time that is still to come: reports can be late and come together

    def started(self, stage: str) -> None:
        """What came before is start-up of the stage that begins."""
        self._pass(stage, STARTUP)
        self._stage, self._category = stage, STARTUP

    def progress(self, stage: str, metrics: Mapping[str, float]) -> None:
        """A step's report, or without metrics that of a stage that takes none."""
        if not metrics:
            self._pass(stage, PRODUCTIVE)
            self._category = PRODUCTIVE
            return
        step, saving = metrics.get("step_seconds", 0.0), metrics.get("checkpoint_seconds", 0.0)
        self._claim(stage, REWORK if metrics.get("rework") else PRODUCTIVE, step)
        self._claim(stage, CHECKPOINT, saving)
        self._pass(stage, self._category)
        self._category = IDLE

    def evaluated(self, stage: str) -> None:
        """The time since the last report was an evaluation's."""
        self._pass(stage, EVALUATION)

    def finished(self, stage: str, *, reused: bool) -> None:
        """After its last step a stage writes, hashes and publishes its artifact."""
        self._pass(stage, STARTUP if reused else CHECKPOINT if self._category == IDLE else PRODUCTIVE)
        self._stage, self._category = stage, STARTUP

    def look(self, *, stalled: bool) -> None:
        """Charge what is certain now: a stall, while it lasts, and the work of a stage without steps."""
        if self._stage and (stalled or self._category == PRODUCTIVE):
            self._pass(self._stage, STALLED if stalled else PRODUCTIVE)

    def _claim(self, stage: str, category: str, seconds: float) -> None:
        if seconds > 0:
            self._charge(stage, category, seconds)
            self._debt += seconds

    def _pass(self, stage: str, category: str) -> None:
        """Charge the time since the last report, less what has been charged of it."""
        now = self._now()
        rest = now - self._upto - self._debt
        self._upto, self._debt = now, max(-rest, 0.0)
        if rest > 0:
            self._charge(stage, category, rest)
