"""Training with copies in memory, as two machines of a rank each would do it: every rank has a folder of its own.

python -m tests.distributed.copying FOLDER DATA CALL      one rank of a launcher's; rank 1 is killed at that call
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lehr.artifacts.fencing import Fence
from lehr.artifacts.folder_store import LocalStore
from lehr.config.optim import Guard, Optim, Rollback
from lehr.config.training import Watch
from lehr.distributed.rank_launcher import lead_or_follow
from lehr.distributed.ranks import Local, Ranks, run_ranks
from lehr.runtime.ports import NullTracker
from lehr.train.checkpointing import memory_copies
from lehr.train.checkpointing.copied_saves import FOLDER
from lehr.train.loop import Sums
from lehr.train.next_token import NextToken
from lehr.train.pretraining import train_on_rank
from tests.distributed.cases import Case

STEPS = 14
GOING_BACK = Optim(lr=3e-3, guard=Guard(window=16, sigmas=6.0, rollback=Rollback(after=2, limit=2)))


class Stop(Exception):
    """Stands for a kill: nothing is saved when it is raised."""


@dataclass(frozen=True)
class Run:
    """A stretch of training in `folder`: a save every `saves` steps, a copy every `copies`. It stops before its call `stop` of
    the objective, and has losses that are far too high in the steps `bad`. Before those steps `meanwhile` happens."""

    folder: Path
    data: Path
    layout: str = "fsdp"
    saves: int = 100
    copies: int = 3
    stop: int = -1
    bad: tuple[int, ...] = ()
    meanwhile: dict[int, Callable[[Ranks, Run], None]] = field(default_factory=dict)
    killed: bool = False

    @property
    def memories(self) -> list[Path]:
        return [self.folder / f"machine-{rank}" for rank in range(2)]

    @property
    def place(self) -> Path:
        return self.folder / "run"

    def files(self, machine: int) -> list[Path]:
        """The copies that this machine's memory has."""
        return sorted(self.memories[machine].rglob("*.safetensors"))

    def said(self) -> list[str]:
        notes = self.folder / "notes"
        return notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []


@dataclass(frozen=True)
class Scene:
    """`first` stops; then `happens`, and `second` ends."""

    first: Run
    happens: Callable[[Run], None]
    second: Run


def play(ranks: Ranks, scenes: list[Scene]) -> None:
    """On every rank."""
    for scene in scenes:
        try:
            train(ranks, scene.first)
        except Stop:
            ranks.gather(None)
        if ranks.first:
            for machine in (0, 1):
                (scene.first.folder / f"had-{machine}").write_text("\n".join(p.stem for p in scene.first.files(machine)))
            scene.happens(scene.first)
        ranks.gather(None)
        train(ranks, scene.second)
        ranks.gather(None)


@contextmanager
def machine(ranks: Ranks, memory: Path) -> Iterator[None]:
    """This process as the only rank of its machine."""
    before, rank = dict(os.environ), str(ranks.rank)
    os.environ |= {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    os.environ |= {"LOCAL_WORLD_SIZE": "1", "GROUP_RANK": rank, "RANK": rank, FOLDER: str(memory)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Heard(NullTracker):
    """Keeps what it is told in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def troubled(run: Run) -> Any:
    """NextToken.backward with the run's troubles."""
    whole, calls = NextToken.backward, [0]

    def backward(self: NextToken, step: int, ranks: Ranks) -> Sums:
        if calls[0] == run.stop:
            if run.killed and not ranks.first:
                os.kill(os.getpid(), signal.SIGKILL)
            elif not run.killed:
                raise Stop
        calls[0] += 1
        if step in run.meanwhile:
            run.meanwhile[step](ranks, run)
        sums = whole(self, step, ranks)
        if step in run.bad and ranks.first:
            sums.loss = sums.loss * 50
        return sums

    return backward


def train(ranks: Ranks, run: Run) -> None:
    """On a rank: the run until it stops or ends."""
    whole, writes = NextToken.backward, memory_copies.write_tensors
    optim = GOING_BACK if run.bad else Optim(lr=3e-3)
    case = Case("run", "olmo2", {"processes": 2, "layout": run.layout}, steps=STEPS, optim=optim)
    work, tracker = case.work(run.folder, run.data), Local(Heard(run.folder / "notes"), NullTracker())
    tracker = tracker if ranks.first else Local(NullTracker(), NullTracker())
    context = replace(work.context, fencing=_fence(ranks, run), watch=Watch(copy_steps=run.copies), tracker=tracker)
    phase = replace(work.phase, checkpoint_steps=run.saves)
    NextToken.backward = troubled(run)  # type: ignore[method-assign]
    try:
        with machine(ranks, run.memories[ranks.rank]):
            train_on_rank(ranks, replace(work, context=context, phase=phase))
    finally:
        NextToken.backward, memory_copies.write_tensors = whole, writes  # type: ignore[method-assign]


def _fence(ranks: Ranks, run: Run) -> Fence:
    """The token of the attempt that rank 0 begins, on every rank."""
    made = LocalStore(run.folder / "store").begin("t") if ranks.first else None
    root, key, number, token = ranks.gather([str(made.root), made.key, made.number, made.token] if made else [])[0]  # type: ignore[attr-defined]
    return made or Fence(Path(root), key, number, token)  # type: ignore[return-value]


def full_memory(ranks: Ranks, run: Run) -> None:
    """From now on rank 1's machine has no memory left."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "copy")

    if not ranks.first:
        memory_copies.write_tensors = refuse


def newer_attempt(ranks: Ranks, run: Run) -> None:
    """Another attempt at the same work begins, and this one does not know."""
    if ranks.first:
        LocalStore(run.folder / "store").begin("t")


def put_aside(ranks: Ranks, run: Run) -> None:
    """Keep what this machine's memory has now."""
    shutil.copytree(run.memories[ranks.rank], run.folder / f"aside-{ranks.rank}", dirs_exist_ok=True)


def main(folder: Path, data: Path, call: int) -> None:
    run = Run(folder, data, stop=call, killed=True)
    lead_or_follow(lambda: run_ranks(2, 1, train, run))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
