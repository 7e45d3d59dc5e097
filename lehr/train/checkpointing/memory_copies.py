"""Copies of the training state in the memory of machines: made by a thread, and read when ranks start again.

A rank's part of the state goes to its own machine's memory and to that of a machine half of all machines further on. Where all
ranks hold the whole state, one rank of each machine keeps it, and nothing is sent but the log. Ranks agree on a copy before
they publish it, and on the one that they read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lehr.artifacts.artifact import sha256_file
from lehr.artifacts.tensors import write_tensors
from lehr.distributed.machines import Machines
from lehr.distributed.ranks import Ranks
from lehr.runtime.errors import LehrError
from lehr.runtime.ports import FencingToken
from lehr.train.checkpointing.copy_files import CopyFolder, Generation
from lehr.train.checkpointing.copy_transfer import swap, unworded, words

LOG = "log"  # the name of the log's bytes among the tensors of a copy
_TIMEOUT = timedelta(seconds=300)  # for a peer's answer; nobody but the next copy waits for it
_CLOSING_SECONDS = 10.0  # for a copy that is being made when training ends


@dataclass(frozen=True)
class Crew:
    """The ranks and their machines. `whole`: every rank holds the whole state, so that one of each machine keeps it."""

    ranks: Ranks
    machines: Machines
    whole: bool

    @property
    def part(self) -> int:
        """Which part of the state is this rank's."""
        return 0 if self.whole else self.ranks.rank

    @property
    def keeps(self) -> bool:
        """Whether this rank takes part in copying."""
        return not self.whole or self.machines.first

    @property
    def keepers(self) -> list[int]:
        return [self.machines.on(m)[0] for m in self.machines.all] if self.whole else list(range(self.ranks.world))

    @property
    def peers(self) -> tuple[int, int] | None:
        """See Machines.peers. None where each machine has the whole state already."""
        return None if self.whole else self.machines.peers()


@dataclass(frozen=True)
class Job:
    """One rank's copy to be made: `tensors` are in host memory, and change no more until it is. `log` is rank 0's."""

    generation: Generation
    tensors: Mapping[str, Tensor]
    log: Path | None
    log_bytes: int


class Dropped(Exception):
    """All ranks have agreed to drop a copy; the next one may be made."""


class CopyMaker:
    """Makes copies one after the other on a thread, which communicates over a gloo group of its own. A copy that fails on one
    rank is dropped by all: `note` says so, and training goes on. When a peer is gone, no further one is made."""

    def __init__(self, folder: CopyFolder, crew: Crew, fencing: FencingToken, note: Callable[[str], None]) -> None:
        self.folder, self.crew, self.fencing, self.note = folder, crew, fencing, note
        self._keepers = crew.keepers
        self._alone = len(self._keepers) == 1
        # Every rank must call new_group, also those that are not in it.
        self._group = None if self._alone else dist.new_group(self._keepers, timeout=_TIMEOUT, backend="gloo")
        self._thread: threading.Thread | None = None
        self._broken, self._why, self._said = False, "", ""

    def make(self, job: Job) -> None:
        """Start making a copy, once the one before is made."""
        self.wait()
        if self.crew.keeps and not self._broken:
            self._thread = threading.Thread(target=self._run, args=(job,), name="memory-copies", daemon=True)
            self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until no copy is being made, at most `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)
            if not self._thread.is_alive():
                self._thread = None

    def close(self) -> None:
        """Wait no longer than a copy normally takes: a peer may be gone."""
        self.wait(_CLOSING_SECONDS)

    def _run(self, job: Job) -> None:
        self._why = ""
        try:
            self._make(job)
        except (Dropped, OSError) as error:  # an OSError only after all have agreed, of this machine's memory
            if str(error) != self._said:  # not again with every copy
                self._said = str(error)
                self.note(f"the copy in memory of step {job.generation.step} is not made: {error}")
        except (RuntimeError, LehrError) as error:
            self._broken = True
            self.note(f"no more copies in memory are made: {error}")
        finally:
            peers = self.crew.peers
            for part in (self.crew.part, *([peers[1]] if peers else [])):
                self.folder.drop(job.generation, part)

    def _make(self, job: Job) -> None:
        written = self._attempt(lambda: self._write(job))
        size, sha256 = written if written is not None else (-1, "0" * 64)
        said = self._exchange([*job.generation.values, size, *words(sha256)])
        if any(one[:3] != job.generation.values or one[3] < 0 for one in said.values()):
            raise Dropped(self._why or "another rank could not write its own")
        facts = {self.crew.part: (size, sha256)}
        if peers := self.crew.peers:
            facts[peers[1]] = (said[peers[1]][3], unworded(said[peers[1]][4:]))
            got = self._attempt(lambda: self._swap(job.generation, peers, facts[peers[1]][0]))
            if not all(one[0] for one in self._exchange([int(got == facts[peers[1]][1])]).values()):
                raise Dropped(self._why or "a copy did not reach its peer as it was sent")
        self._publish(job.generation, facts)

    def _attempt(self, act: Callable[[], Any]) -> Any:
        """`act()`, or None for a failure of this machine's, of which the others must hear before this rank gives up."""
        try:
            return act()
        except OSError as error:
            self._why = str(error)
            return None

    def _write(self, job: Job) -> tuple[int, str]:
        log, own = self._log(job), self.folder.beside(job.generation, self.crew.part)
        self.folder.make()
        write_tensors({**job.tensors, **({} if log is None else {LOG: log})}, own)
        return own.stat().st_size, sha256_file(own)

    def _log(self, job: Job) -> Tensor | None:
        """The log's bytes, where this rank keeps them: rank 0's, and under a whole state everybody's. Raises OSError."""
        path = job.log
        data = None if path is None else self._attempt(lambda: _bytes(path, job.log_bytes))
        if self.crew.whole and not self._alone:
            size = torch.tensor([-1 if data is None else len(data)])
            dist.broadcast(size, 0, group=self._group)
            data = torch.empty(max(int(size), 0), dtype=torch.uint8) if data is None else data
            if len(data):
                dist.broadcast(data, 0, group=self._group)
            if int(size) < 0:
                raise OSError(self._why or "rank 0 could not read its log")
        elif data is None and job.log is not None:
            raise OSError(self._why)
        return data

    def _swap(self, generation: Generation, peers: tuple[int, int], size: int) -> str:
        to, source = peers
        own, other = (self.folder.beside(generation, part) for part in (self.crew.part, source))
        return swap(self._group, to, own, source, size, other)

    def _exchange(self, own_words: list[int]) -> dict[int, list[int]]:
        """What every keeper says, by rank."""
        if self._alone:
            return {self._keepers[0]: own_words}
        own = torch.tensor(own_words)
        every = [torch.empty_like(own) for _ in self._keepers]
        dist.all_gather(every, own, group=self._group)
        return {rank: [int(word) for word in one] for rank, one in zip(self._keepers, every, strict=True)}

    def _publish(self, generation: Generation, facts: dict[int, tuple[int, str]]) -> None:
        """Rank 0 gives the word while no newer attempt can begin. Raises Dropped if one has, or if nobody can tell."""
        if self.crew.ranks.first:
            try:
                with self.fencing.critical_section():
                    self._tell(1)
            except LehrError as error:
                self._tell(0)
                raise Dropped(str(error)) from error
        elif not self._tell(0):
            raise Dropped("rank 0 may not publish it")
        for part, (size, sha256) in facts.items():
            self.folder.publish(generation, part, size, sha256)
            self.folder.keep_newest(part)

    def _tell(self, word: int) -> int:
        """Rank 0's word, on all keepers."""
        said = torch.tensor([word])
        if not self._alone:
            dist.broadcast(said, 0, group=self._group)
        return int(said)


def _bytes(path: Path, size: int) -> Tensor:
    with path.open("rb") as file:
        data = bytearray(file.read(size))
    return torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
