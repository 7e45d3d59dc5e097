"""Finds the newest copy that the memories of all machines hold together, and brings each rank its part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from lehr.artifacts.tensors import read_tensors
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.copy_files import CopyFolder, Generation
from lehr.train.checkpointing.copy_transfer import receive, send
from lehr.train.checkpointing.memory_copies import Crew

Holders = dict[int, set[int]]  # part -> machines whose memory has it


@dataclass(frozen=True)
class Found:
    """A generation of which every part is intact on some machine."""

    generation: Generation
    holders: Holders


class CopyReader:
    """Every method is a collective, and has the same result on every rank."""

    def __init__(self, folder: CopyFolder, crew: Crew, note: Callable[[str], None]) -> None:
        self.folder, self.crew, self.note = folder, crew, note

    def newest(self) -> Found | None:
        """Of the generations that are complete over all machines, the newest whose hashes are right."""
        for generation, holders in self._listed():
            self._check(generation, holders)
            if self._complete(holders):
                return Found(generation, holders)
            self.note(f"the copies in memory of step {generation.step} are damaged and passed over")
        return None

    def _complete(self, holders: Holders) -> bool:
        return all(holders.get(part) for part in range(self.folder.owner.parts))

    def _listed(self) -> list[tuple[Generation, Holders]]:
        """Generations of which every part is somewhere, the newest first; nothing is read yet."""
        crew, every = self.crew, dict[Generation, Holders]()
        mine = [[g.values, parts] for g, parts in self.folder.found().items()] if crew.machines.first else []
        for rank, its in enumerate(crew.ranks.gather(mine)):
            for values, parts in its:
                holders = every.setdefault(Generation(*values), {})
                for part in parts:
                    holders.setdefault(part, set()).add(crew.machines.places[rank][0])
        return sorted(((g, h) for g, h in every.items() if self._complete(h)), key=lambda pair: pair[0], reverse=True)

    def _check(self, generation: Generation, holders: Holders) -> None:
        """Take out of `holders` what is damaged; the ranks of a machine share the work."""
        machines = self.crew.machines
        here = sorted(part for part, where in holders.items() if machines.machine in where)
        bad = [part for part in machines.share(here) if not self.folder.intact(generation, part)]
        for rank, parts in enumerate(self.crew.ranks.gather(bad)):
            for part in parts:
                holders[part].discard(machines.places[rank][0])

    def fetch(self, found: Found) -> dict[str, Tensor] | None:
        """This rank's part; what its machine lacks comes from another one, and stays. None on all ranks if one cannot have
        its part."""
        ways = list(self._ways(found.holders))
        fetched = [self._bring(found.generation, *way) for way in ways]
        if not all(self.crew.ranks.gather(all(fetched))):
            self.note(f"the copies in memory of step {found.generation.step} do not reach every machine")
            return None
        try:
            tensors = read_tensors(self.folder.path(found.generation, self.crew.part))
        except UserError:
            tensors = None
        return tensors if all(self.crew.ranks.gather(tensors is not None)) else None

    def _ways(self, holders: Holders) -> Iterable[tuple[int, int, int]]:
        """(part, the rank that sends it, the rank that takes it for its machine), in the same order on every rank."""
        machines = self.crew.machines
        for machine in machines.all:
            for number, rank in enumerate(machines.on(machine)):
                part = 0 if self.crew.whole else rank
                if machine not in holders[part] and (number == 0 or not self.crew.whole):
                    others = machines.on(min(holders[part]))
                    yield part, others[number % len(others)], rank

    def _bring(self, generation: Generation, part: int, sender: int, taker: int) -> bool:
        """Whether it was done; True on ranks that have nothing to do with it."""
        own = self.crew.ranks.rank
        if own == sender:
            record = self.folder.described(generation, part)
            assert record is not None  # its hash was right a moment ago
            send(self.folder.path(generation, part), record[1], taker)
        return self._take(generation, part, sender) if own == taker else True

    def _take(self, generation: Generation, part: int, sender: int) -> bool:
        try:
            size, sha256 = receive(self.folder.beside(generation, part), sender)
            self.folder.publish(generation, part, size, sha256)
        except OSError:
            return False
        finally:
            self.folder.drop(generation, part)
        return True
