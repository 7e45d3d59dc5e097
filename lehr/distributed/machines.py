"""Which machine each rank is on."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.distributed.ranks import Ranks
from lehr.runtime.environment import whole
from lehr.runtime.rank_environment import hosts


@dataclass(frozen=True)
class Machines:
    """`places[rank]` is that rank's (machine, number on that machine); `rank` is this process's."""

    rank: int
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, ranks: Ranks) -> Machines:
        """As the launcher started them. A collective: every rank calls it."""
        launched = hosts() > 1
        machine = whole("GROUP_RANK", 0) if launched else 0
        local = whole("LOCAL_RANK", 0) if launched else ranks.rank
        return cls(ranks.rank, tuple((one, number) for one, number in ranks.gather((machine, local))))

    @property
    def machine(self) -> int:
        return self.places[self.rank][0]

    @property
    def first(self) -> bool:
        """Whether this is its machine's first rank."""
        return self.rank == self.on(self.machine)[0]

    @property
    def all(self) -> list[int]:
        return sorted({machine for machine, _ in self.places})

    def on(self, machine: int) -> list[int]:
        """The ranks of `machine`, in their order on it."""
        found = [rank for rank, (its, _) in enumerate(self.places) if its == machine]
        return sorted(found, key=lambda rank: self.places[rank][1])

    def share(self, items: list[int]) -> list[int]:
        """This rank's part of work that its machine has once."""
        own = self.on(self.machine)
        return items[own.index(self.rank) :: len(own)]

    def peers(self) -> tuple[int, int] | None:
        """(the rank that keeps this rank's copy, the rank whose copy this one keeps): of the machine half of all machines
        further on, and of the one that far back. Neighbours by number often share a rack, which can fail as a whole. None on a
        single machine. Every machine must have as many ranks as any other."""
        machines = self.all
        if len(machines) == 1:
            return None
        here, number = machines.index(self.machine), self.on(self.machine).index(self.rank)
        step = len(machines) // 2
        to, source = (machines[(here + shift) % len(machines)] for shift in (step, -step))
        return self.on(to)[number], self.on(source)[number]
