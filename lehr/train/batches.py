"""How many sequences each step has: a constant number, or one that doubles during the stage (OLMo 1 section 3.1, the 65B)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from lehr.config.schedule import BatchRamp


@dataclass(frozen=True)
class Batches:
    """Intervals of constant batch size: from step `steps[i]`, which starts with instance `instances[i]`, each step has
    `sizes[i]` sequences. `total` is the number of steps that fit into the stage's tokens."""

    steps: tuple[int, ...]
    instances: tuple[int, ...]
    sizes: tuple[int, ...]
    total: int

    @classmethod
    def of(cls, tokens: int, batch_size: int, sequence_length: int, ramp: BatchRamp | None = None) -> Batches:
        """The intervals for a stage of `tokens`."""
        if ramp is None:
            return cls((0,), (0,), (batch_size,), tokens // (batch_size * sequence_length))
        steps, instances, sizes = [0], [0], [ramp.start]
        budget, per_piece = tokens // sequence_length, ramp.double_every_tokens // sequence_length
        while sizes[-1] < batch_size:
            count = max(1, per_piece // sizes[-1])
            # The token budget ends inside this interval: the batch size does not grow any further.
            if instances[-1] + count * sizes[-1] >= budget:
                break
            instances.append(instances[-1] + count * sizes[-1])
            steps.append(steps[-1] + count)
            sizes.append(min(2 * sizes[-1], batch_size))
        total = steps[-1] + (budget - instances[-1]) // sizes[-1]
        return cls(tuple(steps), tuple(instances), tuple(sizes), total)

    def at(self, step: int) -> tuple[int, int]:
        """(first instance, sequences) of `step`."""
        piece = bisect_right(self.steps, step) - 1
        size = self.sizes[piece]
        return self.instances[piece] + (step - self.steps[piece]) * size, size

    @property
    def all_instances(self) -> int:
        """Sequences of all steps together."""
        first, size = self.at(self.total - 1)
        return first + size

    def step_of(self, instance: int) -> int:
        """The step that holds global instance number `instance`: the inverse of `at`."""
        piece = bisect_right(self.instances, instance) - 1
        return self.steps[piece] + (instance - self.instances[piece]) // self.sizes[piece]
