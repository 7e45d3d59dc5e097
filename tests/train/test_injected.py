"""Trouble put into a stage that trains as every stage does: it ends as good as without, and says what happened."""

from __future__ import annotations

import errno
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.incidents import read_incidents
from lehr.config.optim import Guard, Optim
from lehr.distributed.ranks import Ranks
from lehr.runtime.errors import InfraError, UserError
from lehr.train.checkpointing import resume_state
from lehr.train.loop import Sums
from lehr.train.state import TrainState

sys.path.insert(0, str(Path(__file__).parent))
import pieces

BAD = (12, 13, 25)  # two in a row, and one more
OPTIM = Optim(lr=3e-3, guard=Guard(window=16, sigmas=6.0))


@dataclass
class Injected(pieces.Copying):
    """Does `harm` to the gradients of the steps BAD, and multiplies their losses by `loss`."""

    state: TrainState
    harm: Callable[[Tensor], object]
    loss: float

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums = pieces.Copying(self.state.model).backward(step, ranks)
        if step in BAD:
            self.harm(self.state.optimizer.flat.grads)
            sums.loss *= self.loss
        return sums


class Heard(pieces.Notes):
    """Keeps the steps at which trackers were told of a refused update, or of NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped: list[int] = []
        self.not_finite: list[int] = []

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        self.skipped += [step] if metrics.get("skipped") else []
        self.not_finite += [step] if metrics.get("not_finite") else []


def _end(artifact: Artifact) -> float:
    return statistics.mean(row["loss"] for row in pieces.curves(artifact)[-5:])


@pytest.mark.parametrize(
    ("harm", "loss", "finite"),
    [
        (lambda grads: grads[3:4].fill_(float("nan")), 1.0, False),  # one number of a gradient
        (lambda grads: grads.mul_(1e4), 1.0, True),  # a gradient spike
        (lambda grads: None, 50.0, True),  # a loss spike
        (lambda grads: grads.mul_(1e30), float("inf"), False),
    ],
)
def test_bad_steps_are_refused_and_said(tmp_path: Path, harm: Callable[[Tensor], object], loss: float, finite: bool) -> None:
    heard = Heard()
    artifact = pieces.stage(
        tmp_path / "run", lambda state: Injected(state, harm, loss), steps=60, optim=OPTIM, tracker=heard
    )  # fmt: skip
    quiet = pieces.stage(tmp_path / "quiet", pieces.plain, steps=60, optim=OPTIM)
    assert _end(artifact) == pytest.approx(_end(quiet), rel=0.05)
    refused = [step + 1 for step in BAD]
    assert [row["step"] for row in pieces.curves(artifact) if row.get("skipped")] == refused == heard.skipped
    assert heard.not_finite == ([] if finite else refused)
    record = json.loads(artifact.path("logs/stability.json").read_text())
    assert record["skipped_steps"] == 3 and json.loads(quiet.path("logs/stability.json").read_text())["skipped_steps"] == 0


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    quiet = pieces.stage(tmp_path / "quiet", pieces.plain)
    with pytest.raises(pieces.Stop):
        pieces.stage(tmp_path / "run", lambda state: pieces.StopAt(state.model, 23, poison=-1))
    newest = max((tmp_path / "run").glob("work/*/resume/*.safetensors"))
    raw = bytearray(newest.read_bytes())
    raw[-5] ^= 1
    newest.write_bytes(raw)
    notes = pieces.Notes()
    artifact = pieces.stage(tmp_path / "run", pieces.plain, tracker=notes)
    assert artifact.manifest.digest == quiet.manifest.digest
    assert [text for text in notes.texts if newest.name in text and "damaged" in text]
    assert "t: going on at step 16" in notes.texts
    kept = artifact.path("logs/incidents.txt").read_text()
    assert newest.name in kept and "going on at step 16" in kept
    assert not quiet.path("logs/incidents.txt").exists()


def test_a_disk_that_fills_up_in_a_save_is_one_error_and_said_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, save = pieces.stage(tmp_path / "quiet", pieces.plain), resume_state.save_tensors

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if path.name.startswith("state-00000012"):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(tensors, path)

    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"state-00000012.*the disk is full") as caught:
        patched.setattr(resume_state, "save_tensors", full)
        pieces.stage(tmp_path / "run", pieces.plain)
    assert caught.value.exit_code == 2
    artifact = pieces.stage(tmp_path / "run", pieces.plain)
    assert artifact.manifest.digest == quiet.manifest.digest
    ended, on = read_incidents(artifact)
    assert "attempt 1 (host " in ended and "ended with UserError: " in ended
    assert "state-00000012.1.tmp: the disk is full" in ended
    assert "t stopped after step 1" in ended and on.endswith("t: going on at step 8")


@pytest.mark.long
def test_a_killed_rank_is_named_to_the_next_attempt(tmp_path: Path) -> None:
    quiet = pieces.stage(tmp_path / "quiet", pieces.plain, world=2)
    with pytest.raises(InfraError, match="rank 1 of 2, killed by SIGKILL"):
        pieces.stage(tmp_path / "run", pieces.LosesRankOne, world=2)
    artifact = pieces.stage(tmp_path / "run", pieces.plain, world=2)
    assert artifact.manifest.digest == quiet.manifest.digest
    ended, on = read_incidents(artifact)
    assert "attempt 1 (host " in ended and "rank 1 of 2, killed by SIGKILL" in ended
    assert "t stopped after step 13 of 30" in ended
    assert on.endswith("t: going on at step 12")
