"""Damage in what somebody supplied: it stops the stage, or is counted, named and passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.runtime.errors import UserError


class Damaged(UserError):
    """Damage in an input. `reason` is one of few, such as `not JSON`: reasons are counted."""

    def __init__(self, reason: str, what: str, *, where: str | Path, remedy: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.reason = reason


Met = Callable[[Damaged], None]  # what is done about damage: it raises it, or notes it and returns


def stop(damage: Damaged) -> None:
    """Raises it."""
    raise damage


@dataclass
class Damage:
    """What was passed over in some inputs: how many by reason, and the first of each reason. Those of several inputs add up, in
    their order, to that of all.

    With `stops`, damage is raised instead. What is no damage but holds no document, such as the pictures of a repository, is
    counted too (`skipped`) and never stops anything.
    """

    stops: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)  # by reason: where, and what
    skipped: Counter[str] = field(default_factory=Counter)

    def met(self, damage: Damaged) -> None:
        """Count one. Raises it if damage stops."""
        if self.stops:
            raise damage
        self.counts[damage.reason] += 1
        self.first.setdefault(damage.reason, f"{damage.where}: {damage.what}")

    def skip(self, what: str, times: int = 1) -> None:
        self.skipped[what] += times

    def add(self, other: Damage) -> None:
        """Add what was found in a later input."""
        self.counts += other.counts
        self.skipped += other.skipped
        self.first = {**other.first, **self.first}

    def row(self) -> dict[str, Any]:
        """As JSON, for the funnel."""
        return {"damaged": dict(sorted(self.counts.items())), "first": dict(sorted(self.first.items())),
                "skipped": dict(sorted(self.skipped.items()))}  # fmt: skip
