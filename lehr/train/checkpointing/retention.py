"""Which saves of a stage in progress stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """The newest save stays, the newest `keep` of those that came at the recipe's interval, because a rollback goes back to
    such, and a damaged one needs another before it; and those at every `every_steps`-th step (0: none)."""

    keep: int = 2
    every_steps: int = 0

    def old(self, saves: Iterable[tuple[int, bool]]) -> set[int]:
        """The steps of the saves that go, of those given as (step, regular)."""
        known = dict(saves)
        regular = sorted(step for step, is_regular in known.items() if is_regular)
        kept = {max(known, default=0), *regular[-self.keep :]}
        if self.every_steps:
            kept |= {step for step in regular if step % self.every_steps == 0}
        return set(known) - kept
