"""Resolving a mix: to window counts and epochs of each source, before any training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lehr.config.mix import Mix
from lehr.data.shards import ShardSet
from lehr.runtime.errors import UserError


@dataclass(frozen=True)
class Part:
    """One source of a mix. `windows` is the number of whole windows in its shard, `instances` the number drawn. `wanted` is
    what its share would have been, where a cap or the limit on repetitions gives it less."""

    shards: ShardSet
    weight: float
    windows: int
    instances: int
    wanted: int

    @property
    def epochs(self) -> float:
        return self.instances / self.windows


@dataclass(frozen=True)
class MixPlan:
    """All parts of a mix, for windows of `sequence_length` tokens. `phases[k][p]` instances of part p are drawn in phase k."""

    parts: list[Part]
    sequence_length: int
    phases: list[list[int]] = field(default_factory=list)

    @property
    def instances(self) -> int:
        return sum(p.instances for p in self.parts)

    def tree(self) -> str:
        """The mix as a tree: share, tokens drawn, tokens available, epochs, what ran short."""
        total = self.instances
        lines = [f"mix: {total * self.sequence_length:,} tokens"]
        for i, p in enumerate(self.parts):
            branch = "└─" if i == len(self.parts) - 1 else "├─"
            drawn, held = p.instances * self.sequence_length, len(p.shards)
            share = f"{branch} {p.shards.source:<14} {p.instances / total:6.1%}"
            short = f"  short of {(p.wanted - p.instances) * self.sequence_length:,}" if p.wanted > p.instances else ""
            lines.append(f"{share}  {drawn:>12,} of {held:>12,} tokens  {p.epochs:5.2f} epochs{short}")
        if len(self.phases) > 1:
            for number, counts in enumerate(self.phases):
                shares = ", ".join(
                    f"{p.shards.source} {count / sum(counts):.1%}" for p, count in zip(self.parts, counts, strict=True) if count
                )
                lines.append(f"   phase {number + 1}: {sum(counts) * self.sequence_length:,} tokens: {shares}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Counted:
    """Of one source: the windows in it, how many instances are drawn from it, how many its share would have been, and how many
    are drawn in each phase."""

    windows: int
    instances: int
    wanted: int
    phases: tuple[int, ...]


def plan(mix: Mix, shard_sets: Mapping[str, ShardSet], instances: int, sequence_length: int) -> MixPlan:
    """Divide `instances` windows among the sources. Raises UserError as `counted` does."""
    counts = counted(mix, {name: len(shard_sets[name]) for name in mix.sources}, instances, sequence_length)
    parts = [
        Part(shard_sets[name], found.instances / instances, found.windows, found.instances, found.wanted)
        for name, found in counts.items()
    ]
    phases = [list(counts_) for counts_ in zip(*(found.phases for found in counts.values()), strict=True)]
    return MixPlan(parts, sequence_length, phases)


def counted(mix: Mix, tokens: Mapping[str, int], instances: int, sequence_length: int) -> dict[str, Counted]:
    """By source, given its number of `tokens`: how many of all `instances` are drawn from it. They add up exactly, and shares
    are met to one window (largest remainder).

    Raises UserError for a source shorter than one window, for one that would be repeated more than `max_epochs` times, for
    tables that ask for more than there is to train, and where the rest has no source left that may be drawn from.
    """
    # One token of a source is not an input but only the last window's last label.
    windows = {name: (tokens[name] - 1) // sequence_length for name in mix.sources}
    for name, held in windows.items():
        if held < 1:
            what = f"source {name!r} holds less than one window of {sequence_length} tokens"
            raise UserError(what, remedy="give it more text")
    if mix.curriculum:
        return _curriculum(mix, windows, instances)
    fixed = {name: math.ceil(wanted / sequence_length) for name, wanted in mix.tokens.items()}
    fixed |= {name: max(1, round(epochs * windows[name])) for name, epochs in mix.epochs.items()}
    rest = instances - sum(fixed.values())
    free = list(mix.weights or mix.sized)
    if rest < 0 or (rest and not free):
        asked = f"its `tokens` and `epochs` ask for {sum(fixed.values()) * sequence_length:,} tokens"
        what = f"{asked}, and the stage trains on {instances * sequence_length:,}"
        raise UserError(what, where="mix", remedy="change the stage's tokens, or give the rest to sources in `weights`")
    weights = dict(mix.weights) or {name: windows[name] ** (1 / mix.temperature) for name in mix.sized}
    wanted = divided(weights, rest) if free else {}
    most = {name: _most(mix, name, windows[name], sequence_length) for name in free}
    drawn = _within(weights, wanted, most, rest) if mix.short == "share" else wanted
    for name, count in (fixed | drawn).items():
        _check_repeats(mix, name, count, windows[name])
    for name, cap in mix.caps.items():
        if drawn[name] * sequence_length > cap + sequence_length:
            what = f"source {name!r}: its share is {drawn[name] * sequence_length:,} tokens, and its cap {cap:,}"
            raise UserError(what, remedy="lower its weight, raise the cap, or give the others the rest with `short: share`")
    every = drawn | fixed
    return {
        name: Counted(windows[name], every[name], (wanted | fixed)[name], (every[name],))
        for name in mix.sources
    }  # fmt: skip


def divided(weights: Mapping[str, float], instances: int) -> dict[str, int]:
    """`instances` in proportion to `weights`, by largest remainder, so that they add up exactly."""
    total = math.fsum(weights.values())  # not `sum`, whose result for floats differs from Python 3.12 on
    exact = {name: weight / total * instances for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: instances - sum(counts.values())]:
        counts[name] += 1
    return counts


def _most(mix: Mix, name: str, windows: int, sequence_length: int) -> int:
    cap = mix.caps[name] // sequence_length if name in mix.caps else None
    repeats = int(mix.max_epochs * windows)
    return repeats if cap is None else min(cap, repeats)


def _within(weights: Mapping[str, float], wanted: Mapping[str, int], most: Mapping[str, int], rest: int) -> dict[str, int]:
    """`wanted`, but of no source more than its `most`: the others share what that leaves, by their weights, again and again."""
    full = dict[str, int]()
    counts = dict(wanted)
    while over := [name for name in counts if name not in full and counts[name] > most[name]]:
        full |= {name: most[name] for name in over}
        left = {name: weight for name, weight in weights.items() if name not in full}
        missing = rest - sum(full.values())
        if missing and not left:
            what = f"all sources together may give {sum(full.values()):,} windows of the {rest:,} that are to be drawn"
            raise UserError(what, where="mix", remedy="train fewer tokens, add documents, or raise caps or max_epochs")
        counts = full | (divided(left, missing) if left else {})
    return counts


def _check_repeats(mix: Mix, name: str, count: int, windows: int) -> None:
    if count > mix.max_epochs * windows:
        raise UserError(
            f"source {name!r} would be repeated {count / windows:.1f} times, more than max_epochs={mix.max_epochs:g}",
            remedy="lower its weight, train fewer tokens, add documents, or raise max_epochs",
        )


def _curriculum(mix: Mix, windows: Mapping[str, int], instances: int) -> dict[str, Counted]:
    sizes = divided({str(i): phase.share for i, phase in enumerate(mix.curriculum)}, instances)
    phases = [divided(phase.weights, sizes[str(i)]) for i, phase in enumerate(mix.curriculum)]
    found = {}
    for name in mix.sources:
        counts = tuple(phase.get(name, 0) for phase in phases)
        _check_repeats(mix, name, sum(counts), windows[name])
        found[name] = Counted(windows[name], sum(counts), sum(counts), counts)
    return found


def offsets(phases: Sequence[Iterable[int]]) -> list[list[int]]:
    """For each phase, how many instances of each part the phases before it have drawn."""
    found, before = list[list[int]](), [0] * (len(list(phases[0])) if phases else 0)
    for phase in phases:
        found.append(before)
        before = [a + b for a, b in zip(before, phase, strict=True)]
    return found
