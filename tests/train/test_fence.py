"""Attempts at one stage overlap; an older one never publishes anything after a newer one began."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.incidents import read_incidents
from lehr.distributed.ranks import Ranks
from lehr.runtime.errors import Preempted
from lehr.runtime.ports import Conflict
from lehr.train.checkpointing import resume_state
from lehr.train.checkpointing.resume_state import ResumeFiles
from lehr.train.loop import Sums
from lehr.train.state import TrainState

sys.path.insert(0, str(Path(__file__).parent))
import pieces


def test_attempts_that_begin_at_once_get_different_numbers_and_the_last_alone_may_publish(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: store.begin("s"), range(24)))
    assert sorted(fencing.number for fencing in claims) == list(range(1, 25))
    for fencing in claims:
        if fencing.number == 24:
            with fencing.critical_section():
                pass
        else:
            with (
                pytest.raises(Preempted, match=f"attempt {fencing.number} is over, attempt 24 began on"),
                fencing.critical_section(),
            ):
                pass


def test_a_value_is_replaced_only_by_who_knows_its_version(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = store.put("k", "1", None)
    with pytest.raises(Conflict):
        store.put("k", "2", None)
    second = store.put("k", "2", first)
    with pytest.raises(Conflict):
        store.put("k", "3", first)
    assert store.get("k") == ("2", second)


def test_an_overtaken_attempt_leaves_no_resume_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    folder = store.scratch("s") / "resume"
    old = ResumeFiles(folder, store.begin("s"))
    old.save(4, {"step": torch.tensor(4)}, 0, lambda size: None)
    old.wait()
    new = ResumeFiles(folder, store.begin("s"))
    old.save(8, {"step": torch.tensor(8)}, 0, lambda size: None)
    with pytest.raises(Preempted):
        old.wait()
    found = new.newest()
    assert found is not None and int(found[0]["step"]) == 4
    assert sorted(p.name for p in folder.iterdir()) == ["state-00000004.json", "state-00000004.safetensors"]


@dataclass
class Slow(pieces.Copying):
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


@pytest.mark.parametrize("newer", ["has ended", "is at work"])
@pytest.mark.parametrize("busy", ["training", "writing"])
def test_an_older_attempt_that_goes_on_changes_nothing(
    newer: str, busy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is let go when the newer one has committed, or stands between two steps: it ends as preempted, and the newer one's
    artifact is what an attempt alone would have made."""
    alone = pieces.stage(tmp_path / "alone", pieces.plain)
    reached, go = threading.Event(), threading.Event()
    if busy == "writing":
        save, old_thread = resume_state.save_tensors, []

        def slow_save(tensors: dict[str, torch.Tensor], path: Path) -> None:
            if not old_thread and path.name.startswith("state-00000012"):
                old_thread.append(threading.current_thread())
                reached.set()
                assert go.wait(60)
            save(tensors, path)

        monkeypatch.setattr(resume_state, "save_tensors", slow_save)
    old_at = 14 if busy == "training" else 10_000
    ended: list[BaseException] = []

    def old() -> None:
        try:
            pieces.stage(tmp_path / "run", lambda state: Slow(state, old_at, reached, go))
        except Preempted as error:
            ended.append(error)

    thread = threading.Thread(target=old)
    thread.start()
    assert reached.wait(60)
    if newer == "has ended":
        made = pieces.stage(tmp_path / "run", pieces.plain)
        go.set()
        thread.join()
    else:
        stands, on = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(pieces.stage, tmp_path / "run", lambda state: Slow(state, 20, stands, on))
            assert stands.wait(60)
            go.set()
            thread.join()
            on.set()
            made = work.result()
    assert len(ended) == 1
    assert "t-" in str(ended[0]) and "attempt 1 is over, attempt 2 began" in str(ended[0])
    assert made.manifest.digest == alone.manifest.digest
    assert pieces.curves(made) == pieces.curves(alone)
    (overlap,) = (line for line in read_incidents(made) if "attempt 1 (host" in line)
    assert "was still running when attempt 2 began: overtaken" in overlap
    assert not list((tmp_path / "run" / "work").iterdir())
