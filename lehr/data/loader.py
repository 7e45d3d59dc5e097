"""Batches as a pure function of (seed, step, rank, world). Shapes: B rows of this rank, T positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr import seeds
from lehr.data.mix import MixPlan, Part


@dataclass(frozen=True)
class Batch:
    """`tokens_BT` and the next tokens `labels_BT`, both int64; a label of -100 counts for nothing."""

    tokens_BT: np.ndarray
    labels_BT: np.ndarray


class Loader:
    """No state: what step N holds depends on nothing but the plan and the seed.

    A keyed permutation maps each instance of the stage to a slot; the slots of a source lie side by side; within each
    of a source's epochs another keyed permutation picks the window. So every window comes once an epoch, the global
    batch is the same for every world size, and the document of any position can be named.
    """

    def __init__(self, plan: MixPlan, seed: int) -> None:
        self.plan, self.seed = plan, seed
        self._ends = np.cumsum([p.instances for p in plan.parts])

    def windows(self, instances: np.ndarray) -> list[tuple[Part, int]]:
        """For each global instance number: its source and the window in it."""
        slots = seeds.permute(instances, self.plan.instances, seeds.derive(self.seed, "slots"))
        which = np.searchsorted(self._ends, slots, side="right")
        out: list[tuple[Part, int]] = [(self.plan.parts[0], 0)] * len(instances)
        for number, part in enumerate(self.plan.parts):
            mine = np.flatnonzero(which == number)
            position = slots[mine] - (self._ends[number] - part.instances)
            epochs = position // part.windows
            for epoch in np.unique(epochs):
                chosen = mine[epochs == epoch]
                within = position[epochs == epoch] % part.windows
                key = seeds.derive(self.seed, "window", part.shards.source, int(epoch))
                for i, window in zip(chosen.tolist(), seeds.permute(within, part.windows, key).tolist(), strict=True):
                    out[i] = (part, window)
        return out

    def batch(self, step: int, rank: int, world: int, batch_size: int) -> Batch:
        """Rows rank, rank + world, ... of the global batch of `step`. Steps beyond the plan raise IndexError."""
        return self.rows(step * batch_size, batch_size, rank, world)

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        """Rows rank, rank + world, ... of the global batch that holds `count` instances from `first` on."""
        instances = np.arange(first + rank, first + count, world)
        if instances[-1] >= self.plan.instances:
            raise IndexError(f"instance {instances[-1]} is beyond the {self.plan.instances} of this mix")
        T = self.plan.sequence_length
        rows_BT1 = np.empty((len(instances), T + 1), dtype=np.int64)
        for b, (part, window) in enumerate(self.windows(instances)):
            rows_BT1[b] = part.shards.tokens[window * T : window * T + T + 1]
        return Batch(rows_BT1[:, :-1].copy(), rows_BT1[:, 1:].copy())

    def instances_of(self, source: str, document: str) -> list[int]:
        """The global instance numbers that hold a token of `document`, in the order in which they are read. Raises KeyError
        if `source` has no such document."""
        T, end = self.plan.sequence_length, 0
        found: list[int] = []
        for part in self.plan.parts:
            start, end = end, end + part.instances
            if part.shards.source != source:
                continue
            number = part.shards.document_ids.index(document) if document in part.shards.document_ids else -1
            if number < 0:
                raise KeyError(document)
            starts = part.shards.document_starts
            first = int(starts[number])
            last = (int(starts[number + 1]) if number + 1 < len(starts) else len(part.shards)) - 1
            windows = np.arange(first // T, min(last // T, part.windows - 1) + 1)
            for epoch in range(-(-part.instances // part.windows)):
                key = seeds.derive(self.seed, "window", source, epoch)
                slots = epoch * part.windows + seeds.unpermute(windows, part.windows, key)
                slots = start + slots[slots < part.instances]
                found += seeds.unpermute(slots, self.plan.instances, seeds.derive(self.seed, "slots")).tolist()
        return sorted(found)

    def documents(self, first: int, count: int) -> list[tuple[str, int, list[str]]]:
        """What `count` instances from `first` on hold: for each (source, first token, ids of the documents in it)."""
        T = self.plan.sequence_length
        out = []
        for part, window in self.windows(np.arange(first, first + count)):
            begin = window * T
            starts = part.shards.document_starts
            low = int(np.searchsorted(starts, begin, side="right")) - 1
            high = int(np.searchsorted(starts, begin + T, side="right"))
            out.append((part.shards.source, begin, part.shards.document_ids[low:high]))
        return out
