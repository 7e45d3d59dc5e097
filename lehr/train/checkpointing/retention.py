"""Which saves of an unfinished stage are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """Kept are the newest save; the newest `keep` regular ones, since a rollback goes back to a regular one, and more than one
    in case the newest is damaged; and every regular one at a multiple of `every_steps` (0: none)."""

    keep: int = 2
    every_steps: int = 0

    def old(self, saves: Iterable[tuple[int, bool]]) -> set[int]:
        """The steps of the saves to delete, of `saves` given as (step, regular)."""
        known = dict(saves)
        regular = sorted(step for step, is_regular in known.items() if is_regular)
        kept = {max(known, default=0), *regular[-self.keep :]}
        if self.every_steps:
            kept |= {step for step in regular if step % self.every_steps == 0}
        return set(known) - kept
