"""Batches as a pure function of (seed, step, rank, world). Shapes: B rows of this rank, T positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.data.mix import MixPlan, Part, offsets
from lehr.data.shards import ShardSet
from lehr.runtime import seeds

_BLOCK = 4096  # instances located in one call
_AHEAD = 64  # windows of this rank that are wanted from a store while the step computes, and at least one batch


@dataclass(frozen=True)
class Batch:
    """`tokens_BT` and the next tokens `labels_BT`, both int64; positions with label -100 have no loss."""

    tokens_BT: np.ndarray
    labels_BT: np.ndarray


class Loader:
    """Has no state that must be saved: the content of step N depends only on the plan and the seed.

    A keyed permutation maps each instance of a phase (most stages have one) to a slot; the slots of a source are adjacent;
    within each of a source's epochs, which go through all phases, another keyed permutation picks the window. So every window
    occurs once in an epoch, the global batch is the same for every world size, and the document at any position can be
    computed.
    """

    def __init__(self, plan: MixPlan, seed: int) -> None:
        self.plan, self.seed = plan, seed
        self._phases = _phases(plan, seed)
        self._remote = any(part.shards.remote for part in plan.parts)
        self._firsts = np.array([phase.first for phase in self._phases])
        self._near = (-1, np.empty(0, np.int64), np.empty(0, np.int64))  # the last block's number and its _locate

    def windows(self, instances: np.ndarray) -> list[tuple[Part, int]]:
        """For each global instance number: its source and the window in it."""
        which, windows = self._locate(instances)
        return [(self.plan.parts[p], w) for p, w in zip(which.tolist(), windows.tolist(), strict=True)]

    def _locate(self, instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each global instance number: its source's index in the plan, and the window in it."""
        which, windows = np.empty(len(instances), np.int64), np.empty(len(instances), np.int64)
        of_phase = np.searchsorted(self._firsts, instances, side="right") - 1
        for number in np.unique(of_phase):
            mine = np.flatnonzero(of_phase == number)
            which[mine], windows[mine] = self._located_in(self._phases[number], np.asarray(instances)[mine])
        return which, windows

    def _located_in(self, phase: _Phase, instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = seeds.permute(instances - phase.first, phase.instances, phase.key)
        which = np.searchsorted(phase.ends, slots, side="right")
        windows = np.empty(len(instances), np.int64)
        for number, part in enumerate(self.plan.parts):
            mine = np.flatnonzero(which == number)
            position = slots[mine] - (phase.ends[number] - phase.counts[number]) + phase.before[number]
            epochs = position // part.windows
            for epoch in np.unique(epochs):
                within = position[epochs == epoch] % part.windows
                key = seeds.derive(self.seed, "window", part.shards.source, int(epoch))
                windows[mine[epochs == epoch]] = seeds.permute(within, part.windows, key)
        return which, windows

    def _located_near(self, instance: int) -> tuple[np.ndarray, np.ndarray]:
        """`_locate` of the block of instances that holds `instance`, cached until another block is needed: permuting thousands
        of numbers in one NumPy call costs little more than permuting one batch."""
        near, block = self._near, instance // _BLOCK
        if near[0] != block:
            first = block * _BLOCK
            near = (block, *self._locate(np.arange(first, min(first + _BLOCK, self.plan.instances))))
            self._near = near  # assigned as one tuple: a prefetching thread may read it at the same time
        return near[1], near[2]

    def batch(self, step: int, rank: int, world: int, batch_size: int) -> Batch:
        """Rows rank, rank + world, ... of the global batch of `step`. Raises IndexError for steps beyond the plan."""
        return self.rows(step * batch_size, batch_size, rank, world)

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        """Rows rank, rank + world, ... of the global batch of `count` instances from `first` on. Raises IndexError as
        `batch`."""
        instances = range(first + rank, first + count, world)
        if instances[-1] >= self.plan.instances:
            raise IndexError(f"instance {instances[-1]} is beyond the {self.plan.instances} of this mix")
        T = self.plan.sequence_length
        tokens_BT, labels_BT = (np.empty((len(instances), T), dtype=np.int64) for _ in range(2))
        if self._remote:
            self._want(instances)
        for b, instance in enumerate(instances):
            shards, begin = self._place(instance)
            # One token more than T: the last position's label.
            window = shards.tokens[begin : begin + T + 1]
            tokens_BT[b], labels_BT[b] = window[:-1], window[1:]
        if self._remote:
            batches = -(-_AHEAD // len(instances))
            self._want(range(first + count + rank, min(first + count * (1 + batches), self.plan.instances), world))
        return Batch(tokens_BT, labels_BT)

    def _place(self, instance: int) -> tuple[ShardSet, int]:
        """A source, and the first token in it of an instance's window."""
        which, windows = self._located_near(instance)
        at = instance % _BLOCK
        return self.plan.parts[int(which[at])].shards, int(windows[at]) * self.plan.sequence_length

    def _want(self, instances: range) -> None:
        """Begin to read the windows of these instances, where they are in a store."""
        for instance in instances:
            shards, begin = self._place(instance)
            shards.want(begin, begin + self.plan.sequence_length + 1)

    def instances_of(self, source: str, document: str) -> list[int]:
        """The global instance numbers that hold a token of `document`, be it only as a label, in reading order, for all
        documents of that id and all chunks of one. Raises KeyError if `source` has no such document."""
        found: list[int] = []
        for index, part in enumerate(self.plan.parts):
            if part.shards.source != source:
                continue
            numbers = part.shards.documents.find(document)
            if not numbers:
                raise KeyError(document)
            windows = np.unique(np.concatenate([self._windows_of(part, number) for number in numbers]))
            for epoch in range(-(-part.instances // part.windows)):
                key = seeds.derive(self.seed, "window", source, epoch)
                positions = epoch * part.windows + seeds.unpermute(windows, part.windows, key)
                for phase in self._phases:
                    found += phase.instances_at(index, positions)
        return sorted(found)

    def _windows_of(self, part: Part, number: int) -> np.ndarray:
        """The windows in which a token of document `number` is an input or a label."""
        T = self.plan.sequence_length
        _, first, end = part.shards.documents[number]
        # A window's last label is the token after it, so a document that begins there is also a target of the window before.
        return np.arange(max(first - 1, 0) // T, min((end - 1) // T, part.windows - 1) + 1)

    def documents(self, first: int, count: int) -> list[tuple[str, int, list[str]]]:
        """The content of `count` instances from `first` on: for each, (source, first token, ids of its documents)."""
        T = self.plan.sequence_length

        def of(place: tuple[Part, int]) -> tuple[str, int, list[str]]:
            shards, begin = place[0].shards, place[1] * T
            return shards.source, begin, shards.documents.within(begin, begin + T + 1)

        places = self.windows(np.arange(first, first + count))
        for part, window in places if count > 1 else ():
            part.shards.documents.soon(window * T)
        return [of(place) for place in places]


@dataclass(frozen=True)
class _Phase:
    """Instances `first` to `first` + `instances` of a stage: `counts[p]` of part p, of which earlier phases drew `before[p]`.
    `ends` are the cumulated counts."""

    first: int
    counts: list[int]
    before: list[int]
    ends: np.ndarray
    key: int

    @property
    def instances(self) -> int:
        return int(self.ends[-1])

    def instances_at(self, part: int, positions: np.ndarray) -> list[int]:
        """The global instance numbers of the draws number `positions` from a part, as far as they are drawn here."""
        mine = positions[(positions >= self.before[part]) & (positions < self.before[part] + self.counts[part])]
        slots = mine - self.before[part] + int(self.ends[part]) - self.counts[part]
        found: list[int] = (self.first + seeds.unpermute(slots, self.instances, self.key)).tolist()
        return found


def _phases(plan: MixPlan, seed: int) -> list[_Phase]:
    counts = plan.phases or [[part.instances for part in plan.parts]]
    found, first = list[_Phase](), 0
    for number, (phase, before) in enumerate(zip(counts, offsets(counts), strict=True)):
        ends = np.cumsum(phase)
        if ends[-1]:
            key = seeds.derive(seed, "slots", number) if number else seeds.derive(seed, "slots")
            found.append(_Phase(first, phase, before, ends, key))
        first += int(ends[-1])
    return found
