"""Resolving a mix: weights to window counts and epochs, before any training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lehr.config.mix import Mix
from lehr.data.shards import ShardSet
from lehr.runtime.errors import UserError


@dataclass(frozen=True)
class Part:
    """One source of a mix. `windows` is the number of whole windows in its shard, `instances` the number drawn."""

    shards: ShardSet
    weight: float
    windows: int
    instances: int

    @property
    def epochs(self) -> float:
        return self.instances / self.windows


@dataclass(frozen=True)
class MixPlan:
    """All parts of a mix, for windows of `sequence_length` tokens."""

    parts: list[Part]
    sequence_length: int

    @property
    def instances(self) -> int:
        return sum(p.instances for p in self.parts)

    def tree(self) -> str:
        """The mix as a tree: share, tokens drawn, tokens available, epochs."""
        total = self.instances
        lines = [f"mix: {total * self.sequence_length:,} tokens"]
        for i, p in enumerate(self.parts):
            branch = "└─" if i == len(self.parts) - 1 else "├─"
            drawn, held = p.instances * self.sequence_length, len(p.shards)
            share = f"{branch} {p.shards.source:<14} {p.instances / total:6.1%}"
            lines.append(f"{share}  {drawn:>12,} of {held:>12,} tokens  {p.epochs:5.2f} epochs")
        return "\n".join(lines)


def plan(mix: Mix, shard_sets: Mapping[str, ShardSet], instances: int, sequence_length: int) -> MixPlan:
    """Divide `instances` windows among the sources by weight. Raises UserError as `counted` does."""
    counts = counted(mix, {name: len(shard_sets[name]) for name in mix.weights}, instances, sequence_length)
    parts = [Part(shard_sets[name], mix.weights[name], *counts[name]) for name in mix.weights]
    return MixPlan(parts, sequence_length)


def counted(mix: Mix, tokens: Mapping[str, int], instances: int, sequence_length: int) -> dict[str, tuple[int, int]]:
    """By source, given its number of `tokens`: the windows in it, and how many of all `instances` are drawn from it (largest
    remainder, so that they add up exactly).

    Raises UserError for a source shorter than one window, and for one that would be repeated more than `max_epochs` times.
    """
    total = math.fsum(mix.weights.values())  # not `sum`, whose result for floats differs from Python 3.12 on
    exact = {name: weight / total * instances for name, weight in mix.weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: instances - sum(counts.values())]:
        counts[name] += 1
    found = {}
    for name in mix.weights:
        # One token of the source is not an input but only the last window's last label.
        windows = (tokens[name] - 1) // sequence_length
        if windows < 1:
            raise UserError(
                f"source {name!r} holds less than one window of {sequence_length} tokens", remedy="give it more text"
            )
        if counts[name] > mix.max_epochs * windows:
            raise UserError(
                f"source {name!r} would be repeated {counts[name] / windows:.1f} times, "
                f"more than max_epochs={mix.max_epochs:g}",
                remedy="lower its weight, train fewer tokens, add documents, or raise max_epochs",
            )
        found[name] = (windows, counts[name])
    return found
