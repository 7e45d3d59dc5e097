"""SIGTERM and SIGINT: the state is saved within the grace period, and the next start goes on with the same bits."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.forkserver import _forkserver  # type: ignore[attr-defined]
from pathlib import Path

import pytest
import torch

from lehr.artifacts.folder_store import LocalStore
from lehr.distributed.ranks import Ranks
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.runtime import preemption
from lehr.runtime.errors import Interrupted, Preempted
from lehr.train.checkpointing import resume_state
from lehr.train.loop import Sums
from lehr.train.state import TrainState
from tests.staging import made

sys.path.insert(0, str(Path(__file__).parent))
import pieces


@dataclass
class Terminated(pieces.Copying):
    """SIGTERM in the middle of step `at`, once a folder: to this rank alone, or to every process as `systemctl stop` does."""

    state: TrainState
    at: int
    folder: Path
    everybody: bool = False
    number: int = signal.SIGTERM

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == self.at - 1:
            (self.folder / f"rank-{ranks.rank}").write_text(str(os.getpid()))
        sums = pieces.Copying(self.state.model).backward(step, ranks)
        if step == self.at and ranks.first and not (self.folder / "terminated").exists():
            (self.folder / "terminated").touch()
            if self.everybody:
                os.kill(_forkserver._forkserver_pid, signal.SIGTERM)
                for place in self.folder.glob("rank-*"):
                    os.kill(int(place.read_text()), signal.SIGTERM)
            else:
                os.kill(os.getpid(), self.number)
        return sums


@dataclass(frozen=True)
class AtStep:
    """Makes the objective on every rank; can be pickled."""

    at: int
    folder: Path
    everybody: bool = False
    number: int = signal.SIGTERM

    def __call__(self, state: TrainState) -> Terminated:
        return Terminated(state, self.at, self.folder, self.everybody, self.number)


def _saved_steps(root: Path) -> list[int]:
    return sorted(int(p.stem.split("-")[1]) for p in root.glob("work/*/resume/state-*.json"))


@pytest.mark.parametrize("at", [0, 13, 15, 29])
def test_training_ends_after_the_running_step_and_goes_on_from_there(at: int, tmp_path: Path) -> None:
    """Step 15 is a checkpoint's own, step 29 the last."""
    whole = pieces.stage(tmp_path / "whole", pieces.plain)
    with pytest.raises(Preempted, match=f"t was stopped by SIGTERM after step {at + 1} of 30, which is saved") as caught:
        pieces.stage(tmp_path / "run", AtStep(at, tmp_path))
    assert caught.value.exit_code == 143
    assert _saved_steps(tmp_path / "run")[-1] == at + 1
    cut = pieces.stage(tmp_path / "run", AtStep(at, tmp_path))
    assert cut.manifest.digest == whole.manifest.digest
    assert pieces.curves(cut) == pieces.curves(whole)


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.long)])
def test_an_interrupt_is_heard_as_sigterm_is(world: int, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    whole = pieces.stage(tmp_path / "whole", pieces.plain, world=world)
    with pytest.raises(Interrupted, match="t was interrupted after step 14 of 30, which is saved") as caught:
        pieces.stage(tmp_path / "run", AtStep(13, tmp_path, number=signal.SIGINT), world=world)
    assert caught.value.exit_code == 130 and signal.getsignal(signal.SIGINT) is before
    cut = pieces.stage(tmp_path / "run", AtStep(13, tmp_path, number=signal.SIGINT), world=world)
    assert cut.manifest.digest == whole.manifest.digest


def test_who_ignores_interrupts_goes_on_doing_so(tmp_path: Path) -> None:
    """As what a shell's script puts into the background does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with preemption.listening():
            os.kill(os.getpid(), signal.SIGINT)
            assert not preemption.asked()
    finally:
        signal.signal(signal.SIGINT, before)


def test_while_a_resume_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pieces.stage(tmp_path / "whole", pieces.plain)
    save = resume_state.save_tensors

    def terminated_save(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name.startswith("state-00000008"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        save(tensors, path)

    monkeypatch.setattr(resume_state, "save_tensors", terminated_save)
    with pytest.raises(Preempted, match="after step"):
        pieces.stage(tmp_path / "run", pieces.plain)
    assert _saved_steps(tmp_path / "run")[-1] > 8
    monkeypatch.setattr(resume_state, "save_tensors", save)
    assert pieces.stage(tmp_path / "run", pieces.plain).manifest.digest == whole.manifest.digest


def test_before_there_is_anything_to_save_it_ends_at_once(tmp_path: Path) -> None:
    def work(attempt: Attempt) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
        raise AssertionError("it went on")

    with pytest.raises(Preempted, match="stopped by SIGTERM; give the same command again"):
        made(LocalStore(tmp_path), work)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not preemption.asked()


def test_after_the_last_step_the_artifact_is_finished_first(tmp_path: Path) -> None:
    def work(attempt: Attempt) -> Outcome:
        preemption.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        (attempt.out / "file").write_text("whole")
        return Outcome()

    store = LocalStore(tmp_path)
    with pytest.raises(Preempted, match="what was done is kept"):
        made(store, work, output="tokenizer")
    assert [p.name for p in (tmp_path / "artifacts").glob("*/file")] == ["file"]


def _score(state: TrainState, ranks: Ranks) -> dict[str, float]:
    return {"dev_x": float(state.optimizer.flat.values.sum())}


def test_an_evaluation_is_broken_off_and_made_up_for(tmp_path: Path) -> None:
    whole = pieces.stage(tmp_path / "whole", pieces.plain, evaluator=_score)

    def terminated(state: TrainState, ranks: Ranks) -> dict[str, float]:
        if state.step == 15 and not (tmp_path / "terminated").exists():
            (tmp_path / "terminated").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
            raise AssertionError("it went on")
        return _score(state, ranks)

    with pytest.raises(Preempted, match="after step 15 of 30"):
        pieces.stage(tmp_path / "run", pieces.plain, evaluator=terminated)
    cut = pieces.stage(tmp_path / "run", pieces.plain, evaluator=terminated)
    assert cut.manifest.digest == whole.manifest.digest
    assert pieces.curves(cut) == pieces.curves(whole)
    assert [row["step"] for row in pieces.curves(cut) if "dev_x" in row] == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize("everybody", [pytest.param(False, marks=pytest.mark.long), True])
def test_two_ranks_stop_at_one_step(everybody: bool, tmp_path: Path) -> None:
    """Whether rank 0 alone is told or every process is, the fork server too."""
    whole = pieces.stage(tmp_path / "whole", pieces.plain, world=2)
    server = _forkserver._forkserver_pid
    with pytest.raises(Preempted, match="after step 14 of 30"):
        pieces.stage(tmp_path / "run", AtStep(13, tmp_path, everybody), world=2)
    cut = pieces.stage(tmp_path / "run", AtStep(13, tmp_path, everybody), world=2)
    assert _forkserver._forkserver_pid == server  # a dead one takes its word on who is alive with it
    assert cut.manifest.digest == whole.manifest.digest
    assert pieces.curves(cut) == pieces.curves(whole)
