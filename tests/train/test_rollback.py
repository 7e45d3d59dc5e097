"""After several bad steps in a row the last good checkpoint takes over and their batches are left out."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.tensors import read_tensors
from lehr.config.optim import Guard, Optim, Rollback
from lehr.distributed.ranks import Ranks
from lehr.runtime.errors import Preempted
from lehr.train.loop import Objective, Sums
from lehr.train.state import TrainState

sys.path.insert(0, str(Path(__file__).parent))
import pieces


def _optim(**changes: Any) -> Optim:
    return Optim(lr=3e-3, guard=Guard(window=16, sigmas=6.0, rollback=Rollback(**{"after": 3, "limit": 2, **changes})))


@dataclass
class Troubled(pieces.Copying):
    """A NaN in the gradients of the steps `bad`. `events` strike once, before the call of that number: a stop that saves
    nothing, or SIGTERM."""

    state: TrainState
    bad: range
    events: dict[int, str]
    folder: Path

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if ranks.first:
            with (self.folder / "steps").open("a") as calls:
                print(step, file=calls)
            call = len(self.calls())
            if call in self.events and not (self.folder / f"struck-{call}").exists():
                (self.folder / f"struck-{call}").touch()
                if self.events[call] == "stop":
                    raise pieces.Stop
                os.kill(os.getpid(), signal.SIGTERM)
        return pieces.Copying(self.state.model, step if step in self.bad else -1).backward(step, ranks)

    def calls(self) -> list[int]:
        return [int(line) for line in (self.folder / "steps").read_text().split()]


@dataclass(frozen=True)
class Make:
    folder: Path
    bad: range = range(12, 18)
    events: tuple[tuple[int, str], ...] = ()

    def __call__(self, state: TrainState) -> Objective:
        return Troubled(state, self.bad, dict(self.events), self.folder)


def _steps(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "steps").read_text().split()]


def _rows(artifact: Artifact) -> list[int]:
    return [int(row["step"]) for row in pieces.curves(artifact) if "loss" in row]


def test_a_bad_stretch_of_data_is_left_out(tmp_path: Path) -> None:
    """Batches 12 to 17 are bad, checkpoints come every 4 steps, 3 bad steps are enough: from step 15 back to 8, on with batch
    15; from 18 back to 8 again, which is the last one before the first bad step, and on with batch 18."""
    notes = pieces.Notes()
    artifact = pieces.stage(tmp_path / "run", Make(tmp_path), optim=_optim(), tracker=notes)
    assert _steps(tmp_path) == [*range(15), 15, 16, 17, *range(18, 30)]
    assert _rows(artifact) == [*range(1, 9), *range(19, 31)]
    rollbacks = [row for row in pieces.curves(artifact) if "rolled_back_from" in row]
    assert [(r["step"], r["rolled_back_from"], r["skip_first"], r["skip_last"]) for r in rollbacks] == [
        (8, 15, 8, 14),
        (8, 18, 8, 17),
    ]
    state = read_tensors(artifact.path("state.safetensors"))
    assert state["rollback.skipped"].tolist() == [[8, 14, 15 * 104], [8, 17, 18 * 104]]
    assert int(state["tokens"]) == 30 * 104 and int(state["updates"]) == 20
    assert [t for t in notes.texts if "went back" in t] == [
        "t: bad steps up to 15; went back to step 8, leaving out batches 8 to 14",
        "t: bad steps up to 18; went back to step 8, leaving out batches 8 to 17",
    ]
    quiet = pieces.stage(tmp_path / "quiet", pieces.plain)
    assert pieces.curves(artifact)[-1]["loss"] == pytest.approx(pieces.curves(quiet)[-1]["loss"], rel=0.1)


def test_what_was_read_well_before_is_read_again(tmp_path: Path) -> None:
    """Only the 2 batches before the first bad one go with the bad ones."""
    artifact = pieces.stage(tmp_path / "run", Make(tmp_path, range(12, 15)), optim=_optim(before=2))
    assert _steps(tmp_path) == [*range(15), 8, 9, *range(15, 30)]
    assert _rows(artifact) == [*range(1, 11), *range(16, 31)]


def test_the_first_steps_have_something_to_go_back_to_and_the_limit_holds(tmp_path: Path) -> None:
    artifact = pieces.stage(tmp_path / "run", Make(tmp_path, range(12)), optim=_optim())
    assert _steps(tmp_path) == list(range(30))
    assert read_tensors(artifact.path("state.safetensors"))["rollback.skipped"].tolist() == [[0, 2, 3 * 104], [0, 5, 6 * 104]]
    assert _rows(artifact) == list(range(7, 31))  # the guard alone refused 6 to 11
    assert [r["step"] for r in pieces.curves(artifact) if r.get("skipped")] == list(range(7, 13))


@dataclass
class Damaged(pieces.Copying):
    """The weights themselves go wrong, once, after the update of step `at`: a checkpoint may hold them."""

    state: TrainState
    at: int
    done: bool = False

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums = pieces.Copying(self.state.model).backward(step, ranks)
        if step == self.at and not self.done:
            self.done = True
            update = self.state.optimizer.update

            def damaging(lr: float) -> None:
                update(lr)
                self.state.optimizer.flat.values.normal_(generator=torch.Generator().manual_seed(0))
                self.state.optimizer.update = update  # type: ignore[method-assign]

            self.state.optimizer.update = damaging  # type: ignore[method-assign]
        return sums


@pytest.mark.parametrize(("at", "back"), [(16, 16), (15, 12)])
def test_a_checkpoint_of_damaged_weights_is_none_to_go_back_to(at: int, back: int, tmp_path: Path) -> None:
    """Damage after step 15 is in the checkpoint of step 16, from which no good step was made."""
    notes = pieces.Notes()
    artifact = pieces.stage(tmp_path / "run", lambda state: Damaged(state, at), optim=_optim(), tracker=notes, steps=40)
    assert f"t: bad steps up to {at + 4}; went back to step {back}, leaving out batches {back} to {at + 3}" in notes.texts
    losses = [row["loss"] for row in pieces.curves(artifact) if "loss" in row]
    quiet = pieces.curves(pieces.stage(tmp_path / "quiet", pieces.plain, steps=40))
    assert max(losses) < 1.1 * max(row["loss"] for row in quiet)
    assert losses[-1] == pytest.approx(quiet[-1]["loss"], rel=0.1)


@pytest.mark.parametrize("how", ["stop", "term"])
@pytest.mark.parametrize("calls", [(14,), (15,), (16, 17), (13, 14, 15, 19), (9, 18)])
def test_interrupted_around_its_rollbacks_it_ends_bit_identical(how: str, calls: tuple[int, ...], tmp_path: Path) -> None:
    """Calls 13 to 15 are the first bad steps, 16 to 18 the second; a stop loses the steps since the last checkpoint, SIGTERM
    none, and saves in the middle of bad ones."""
    (tmp_path / "a").mkdir()
    whole = pieces.stage(tmp_path / "whole", Make(tmp_path / "a"), optim=_optim(before=2))
    events = tuple((call, how) for call in calls)
    for _ in range(len(calls)):
        with pytest.raises((pieces.Stop, Preempted)):
            pieces.stage(tmp_path / "run", Make(tmp_path, events=events), optim=_optim(before=2))
    cut = pieces.stage(tmp_path / "run", Make(tmp_path, events=events), optim=_optim(before=2))
    ours, theirs = (read_tensors(a.path("state.safetensors")) for a in (whole, cut))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert pieces.curves(cut) == pieces.curves(whole)


def test_two_ranks_go_back_together(tmp_path: Path) -> None:
    artifact = pieces.stage(tmp_path / "run", Make(tmp_path), optim=_optim(), world=2)
    assert _rows(artifact) == [*range(1, 9), *range(19, 31)]


def test_a_recipe_without_rollbacks_says_nothing_of_them() -> None:
    """What children inherit, and fingerprints, are as they were before there were rollbacks."""
    assert Optim(lr=1.0).model_dump()["guard"] == {"enabled": True, "window": 128, "sigmas": 6.0}
    said = _optim().model_dump(mode="json")
    assert said["guard"]["rollback"] == {"after": 3, "limit": 2, "before": 100} and Optim.model_validate(said) == _optim()
