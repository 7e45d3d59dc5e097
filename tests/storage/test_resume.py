"""What a stage in progress saved reaches the store, and the next attempt goes on from it on another machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.incidents import read_incidents
from lehr.artifacts.object_store import record as records
from lehr.artifacts.object_store.async_upload import AsyncUploader
from lehr.artifacts.object_store.fencing import OwnToken
from lehr.artifacts.object_store.store import ObjectStore
from lehr.runtime.errors import InfraError, Preempted
from tests.storage.machines import SignalledAt, Waiting, machine, sealed, stops_at_22, train
from tests.train import pieces

ROOT = Path(__file__).resolve().parents[2]


def _alone(tmp_path: Path) -> Artifact:
    """What an attempt makes that nobody disturbs, in a folder."""
    return Artifact.open(train(LocalStore(tmp_path / "alone"), pieces.plain).uri)


def _kept(store: ObjectStore, name: str = "") -> records.Record:
    (key,) = store.objects.keys(f"attempts/{name}")
    found = records.read(store.objects, key.removeprefix("attempts/").removesuffix(".json"))
    assert found is not None
    return found[0]


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_stage_goes_on_on_another_machine_with_the_same_bits(root: str, world: int, tmp_path: Path) -> None:
    alone = Artifact.open(train(LocalStore(tmp_path / "alone"), pieces.plain, world).uri)
    first, second, notes = machine(root, tmp_path / "1"), machine(root, tmp_path / "2"), pieces.Notes()
    with pytest.raises(pieces.Stop):
        train(first, stops_at_22, world)
    kept = _kept(first).kept
    assert sorted(kept) == [
        "curves.jsonl",
        *(f"resume/state-000000{step}.{end}" for step in (16, 20) for end in ("json", "safetensors")),
    ]
    there = {key for key in first.objects.keys("work/") if "/energy/" not in key}
    assert {entry.object for entry in kept.values()} == there  # older saves are gone there too
    ref = train(second, pieces.plain, world, notes)
    assert "t: going on at step 20" in notes.texts
    made = Artifact.open(second.fetch(ref.uri))
    assert made.manifest.digest == alone.manifest.digest
    assert pieces.curves(made) == pieces.curves(alone)
    assert "attempt 1 (host " in read_incidents(made)[0] and "ended with Stop" in read_incidents(made)[0]
    assert second.objects.keys("work/") == []
    assert train(first, pieces.plain) == ref  # and the first machine finds it


@pytest.mark.long
def test_after_kill_9_the_next_machine_goes_on_from_what_had_arrived(root: str, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("machines.py")), "train", root, str(tmp_path / "1"), "18"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == -signal.SIGKILL
    second = machine(root, tmp_path / "2")
    ref = train(second, pieces.plain)
    assert _kept(second).attempt == 2
    made, alone = Artifact.open(second.fetch(ref.uri)), _alone(tmp_path)
    assert made.manifest.digest == alone.manifest.digest
    assert pieces.curves(made) == pieces.curves(alone)
    assert (
        "attempt 1 (host " in read_incidents(made)[0] and "had recorded no end when attempt 2 began" in read_incidents(made)[0]
    )


def test_sigterm_waits_until_the_last_save_has_arrived(root: str, tmp_path: Path) -> None:
    first, second, notes = machine(root, tmp_path / "1"), machine(root, tmp_path / "2"), pieces.Notes()
    with pytest.raises(Preempted, match="after step 15 of 30, which is saved"):
        train(first, lambda state: SignalledAt(state, 14, signal.SIGTERM))
    ref = train(second, pieces.plain, 1, notes)
    assert "t: going on at step 15" in notes.texts
    assert Artifact.open(second.fetch(ref.uri)).manifest.digest == _alone(tmp_path).manifest.digest


def test_an_older_attempt_on_another_machine_changes_nothing(root: str, tmp_path: Path) -> None:
    """It trains on while the newer one, which began from its save, comes to the end: it publishes neither save nor artifact."""
    old, new = machine(root, tmp_path / "1"), machine(root, tmp_path / "2")
    reached, go = threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def older() -> None:
        try:
            train(old, lambda state: Waiting(state, 14, reached, go))
        except Preempted as error:
            ended.append(error)

    thread = threading.Thread(target=older)
    thread.start()
    assert reached.wait(60)
    ref = train(new, pieces.plain)
    before = _kept(new)
    go.set()
    thread.join()
    assert len(ended) == 1 and "attempt 1 is over, attempt 2 began on" in str(ended[0])
    assert _kept(new) == before
    assert new.objects.keys("work/") == []
    assert Artifact.open(new.fetch(ref.uri)).manifest.digest == _alone(tmp_path).manifest.digest


def test_a_save_that_was_damaged_on_the_way_is_passed_over(root: str, tmp_path: Path) -> None:
    first, second, notes = machine(root, tmp_path / "1"), machine(root, tmp_path / "2"), pieces.Notes()
    with pytest.raises(pieces.Stop):
        train(first, stops_at_22)
    newest = _kept(first).kept["resume/state-00000020.safetensors"]
    (tmp_path / "damaged").write_bytes(b"x" * newest.bytes)
    first.objects.upload({newest.object: tmp_path / "damaged"})
    ref = train(second, pieces.plain, 1, notes)
    assert "t: going on at step 16" in notes.texts
    assert Artifact.open(second.fetch(ref.uri)).manifest.digest == _alone(tmp_path).manifest.digest


def test_a_slow_store_gets_the_newest_state_and_none_that_was_overtaken(tmp_path: Path) -> None:
    copied, reached, go = list[str](), threading.Event(), threading.Event()

    def copy(folder: Path) -> None:
        reached.set()
        assert go.wait(60)
        copied.append(folder.name)

    keeper = AsyncUploader(copy)
    for name in "abc":
        (tmp_path / name).mkdir()
        keeper.hand(tmp_path / name)
        assert reached.wait(60)
    assert not (tmp_path / "b").exists()
    go.set()
    keeper.flush()
    assert copied == ["a", "c"]


def test_a_copy_that_fails_is_heard_of_at_the_next_save(tmp_path: Path) -> None:
    def copy(folder: Path) -> None:
        raise InfraError("the store is away")

    keeper = AsyncUploader(copy)
    keeper.hand(tmp_path)
    with pytest.raises(InfraError, match="away"):
        keeper.flush()
    keeper.hand(tmp_path)
    keeper.stop()  # when the stage is done, its saves are of no more use
    keeper.flush()


def test_parts_that_may_be_named_yet_stay(root: str, tmp_path: Path) -> None:
    """The keeper is behind: a newer picture waits, training has gone back, and the last state is on its way."""
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s")
    scratch = store.scratch("s", fencing)
    gone, named, waits = "1/remote/a/sharded-00000004-1/x", "1/remote/b/sharded-00000012-1/x", "1/remote/c/sharded-00000008-1/x"
    again, final = "1/remote/d/sharded-00000006-1/x", "1/remote/e/final/x"
    parts = [f"work/s/{key}" for key in (gone, named, waits, again, final)]
    for folder in ("resume/sharded-00000006-1", "final", ".kept-2/resume/sharded-00000008-1"):
        (scratch / folder).mkdir(parents=True)
    (tmp_path / "part").write_bytes(b"x")
    store.objects.upload(dict.fromkeys(parts, tmp_path / "part"))
    assert isinstance(fencing, OwnToken)
    fencing.remote_shards.clear("s", {f"work/s/{named}"}, scratch)
    assert sorted(store.objects.keys("work/s/")) == sorted(parts[1:])


def test_another_machines_part_is_sent_while_its_attempt_is_the_newest(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "GROUP_WORLD_SIZE": "2", "GROUP_RANK": "1"}
    for key, value in launcher.items():
        monkeypatch.setenv(key, value)
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s")
    (tmp_path / "part").write_bytes(b"x")
    key = fencing.send(tmp_path / "part")
    assert store.objects.keys("work/s/") == [key]
    store.begin("s")
    with pytest.raises(Preempted, match="attempt 1 is over"):
        fencing.send(tmp_path / "part")
    assert len(store.objects.keys("work/s/")) == 1


def test_an_artifact_of_another_layout_hides_no_killed_attempt(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    whole = store.begin("begun")
    store.commit("flat", sealed(store.scratch("begun", whole) / "out", {"a": b"a"}).folder, whole)
    store.begin("begun")  # well ended, the first one is nobody's business; this one is killed
    assert _kept(store, "begun").untold == []
    store.begin("begun")
    (line,) = _kept(store, "begun").untold
    assert line.startswith("attempt 2 (host ") and "attempt 3 began" in line


def test_other_ranks_can_only_ask(root: str, tmp_path: Path) -> None:
    """A claim travels to processes that must not publish: there it says no more than whether it is over."""
    from multiprocessing.reduction import ForkingPickler

    store = machine(root, tmp_path)
    fencing = store.begin("s")
    sent = ForkingPickler.loads(ForkingPickler.dumps(fencing))
    sent.check()
    store.begin("s")
    with pytest.raises(Preempted, match="attempt 1 is over, attempt 2 began"), sent.critical_section():
        pass
    made = sealed(tmp_path / "made", {"a": b"a"})
    with pytest.raises(Preempted):
        store.commit("s", made.folder, fencing)
