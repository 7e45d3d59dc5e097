"""Machines that share nothing but a bucket: stores with caches of their own, in this process or in one that can be killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost
from lehr.artifacts.object_store.store import ObjectStore
from lehr.config import Recipe, load_recipe
from lehr.config.parallel import Parallel
from lehr.config.training import Watch
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.infra.storage import S3Objects
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.runtime.errors import Preempted
from lehr.runtime.ports import NullTracker, Store, Tracker
from lehr.train.fit import RankContext
from lehr.train.loop import Objective, Sums
from lehr.train.next_token import NextToken
from lehr.train.state import TrainState
from tests.staging import made
from tests.train import pieces

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"


def small(processes: int, layout: str) -> Recipe:
    """The run of the end-to-end tests, with a stage 1 of eighteen steps that is saved after every third, and may go back."""
    sizes = ["stage1.tokens=18432", "stage1.checkpoint_steps=3", "precision=fp32", "stage1.optim.guard.rollback={after: 2}"]
    return load_recipe(RECIPE, [*sizes, f"parallel.processes={processes}", f"parallel.layout={layout}"])


def misled() -> Callable[..., Sums]:
    """NextToken.backward with two losses, one after the other, that are far too high: training goes back."""
    whole = NextToken.backward

    def backward(self: NextToken, step: int, ranks: Ranks) -> Sums:
        sums = whole(self, step, ranks)
        if ranks.first and step in (13, 14):
            sums.loss *= 50
        return sums

    return backward


def machine(root: str, cache: Path) -> ObjectStore:
    return ObjectStore(S3Objects(root), cache)


def sealed(folder: Path, files: dict[str, bytes], parents: list[ArtifactRef] | None = None) -> Artifact:
    """An artifact that is not published yet."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    made = {"kind": "documents", "stage": "s", "fingerprint": "f", "config": {}, "code": "c", "meta": {}}
    return Artifact.seal(folder, parents=parents or [], cost=Cost(), **made)  # type: ignore[arg-type]


def train(
    store: Store, objective: Callable[[TrainState], Objective], world: int = 1, tracker: Tracker | None = None
) -> ArtifactRef:
    """Thirty steps of tests/train/pieces.py as a stage, saved every four."""

    def work(attempt: Attempt) -> Outcome:
        context = RankContext.of(attempt, Parallel(processes=world), Watch())
        args = (context, objective, 30, 4, None, pieces.OPTIM)
        return Outcome(tokens=run_ranks(world, 1, pieces.stage_on_rank, *args))

    return made(store, work, tracker=tracker or NullTracker())


def stops_at_22(state: TrainState) -> Objective:
    return pieces.StopAt(state.model, 22, poison=-1)


@dataclass
class SignalledAt(pieces.Copying):
    """This process gets `number` in step `at`."""

    state: TrainState
    at: int
    number: signal.Signals

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == self.at:
            os.kill(os.getpid(), self.number)
        return pieces.Copying(self.state.model).backward(step, ranks)


@dataclass
class Waiting(pieces.Copying):
    """Waits before step `at` until it is let go."""

    state: TrainState
    at: int
    reached: threading.Event
    go: threading.Event

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == self.at:
            self.reached.set()
            assert self.go.wait(60)
        return pieces.Copying(self.state.model).backward(step, ranks)


def main(what: str, root: str, cache: str, place: str) -> None:
    """In a process of its own: `commit` publishes the sealed folder `place` and says when it begins; `train` trains and is
    killed before step `place`."""
    S3Objects.part_bytes = 5 << 20  # the smallest that S3 takes: a small file is a large one
    store = machine(root, Path(cache))
    if what == "commit":
        fencing = store.begin("big")
        print("begun", flush=True)
        try:
            store.commit("big", Path(place), fencing)
        except Preempted:
            sys.exit(143)
        print("committed", flush=True)
    else:
        train(store, lambda state: SignalledAt(state, int(place), signal.SIGKILL))


if __name__ == "__main__":
    main(*sys.argv[1:])
