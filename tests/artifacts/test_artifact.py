"""Artifacts: complete or absent, altered ones refused, ancestors found."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.artifact import MANIFEST, Artifact, ArtifactRef, Cost, Kind, write_atomic
from lehr.artifacts.folder_store import LocalStore
from lehr.runtime.errors import Bug, UserError


def sealed(folder: Path, files: dict[str, str], parents: list[ArtifactRef] | None = None, **changes: Any) -> Artifact:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    values: dict[str, Any] = {"stage": "stage1", "fingerprint": "f", "config": {}, "code": "c", "meta": {}, "cost": Cost()}
    kind: Kind = "checkpoint"
    return Artifact.seal(folder, kind=kind, parents=parents or [], **(values | changes))


def test_digest_is_of_content_and_ancestry_alone(tmp_path: Path) -> None:
    first = sealed(tmp_path / "a", {"w": "1", "logs/time": "12 s"})
    other_times = sealed(tmp_path / "b", {"w": "1", "logs/time": "13 s"}, cost=Cost(seconds=9), fingerprint="g", stage="soup")
    assert first.manifest.digest == other_times.manifest.digest
    altered = [
        sealed(tmp_path / "c", {"w": "2"}),
        sealed(tmp_path / "d", {"v": "1"}),
        sealed(tmp_path / "e", {"w": "1"}, meta={"step": 1}),
        sealed(tmp_path / "f", {"w": "1"}, parents=[first.ref]),
    ]
    assert len({a.manifest.digest for a in [first, *altered]}) == 5


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda a: (a / "w").write_text("12"), "truncated or grown: 2 bytes instead of 3"),
        (lambda a: (a / "w").write_text("124"), "file altered: its SHA-256 differs"),
        (lambda a: (a / "w").unlink(), "file of this artifact is missing"),
        (lambda a: (a / "logs/l").write_text("other"), "file altered"),
        (lambda a: (a / "deep" / MANIFEST).write_text("{1}"), "file altered"),
        (lambda a: (a / MANIFEST).write_text((a / MANIFEST).read_text()[:-20]), "damaged manifest"),
        (lambda a: (a / MANIFEST).write_bytes(b"\xff"), "damaged manifest"),
        (
            lambda a: (a / MANIFEST).write_text(
                (a / MANIFEST).read_text().replace('"step": 1', '"step": 2').replace('"step":1', '"step":2')
            ),
            "manifest altered",
        ),
        (lambda a: (a / "x.json").write_text("{}"), "a file that this artifact was not sealed with"),
        (lambda a: (a / "deep/x").symlink_to(a), "a file that this artifact was not sealed with"),
        (lambda a: (a / MANIFEST).unlink(), "no artifact here"),
        (lambda a: _replace(a / MANIFEST, '"w":', '"../../w":'), "a file's name leads out of its folder: '../../w'"),
        (lambda a: _replace(a / MANIFEST, '"w":', '"/etc/w":'), "a file's name leads out of its folder: '/etc/w'"),
        (
            lambda a: _replace(a / MANIFEST, "PARENT", "s3://other/x/artifacts/../../.."),
            r"manifest \('s3:.*' leads out of its store",
        ),
        (lambda a: _replace(a / MANIFEST, "PARENT", "s3://other/../x"), "leads out of its store"),
    ],
)
def test_every_harm_is_found_and_named(harm: Any, message: str, tmp_path: Path) -> None:
    parent = ArtifactRef(uri="PARENT", digest="d", kind="checkpoint", stage="stage1")
    sealed(tmp_path / "a", {"w": "123", "logs/l": "first", f"deep/{MANIFEST}": "{0}"}, [parent], meta={"step": 1})
    Artifact.open(tmp_path / "a")
    harm(tmp_path / "a")
    with pytest.raises(UserError, match=message) as caught:
        Artifact.open(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value) and "\n" not in str(caught.value)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_a_file_manager_or_a_log_leaves_is_no_harm(tmp_path: Path) -> None:
    sealed(tmp_path / "a", {"w": "1"})
    for name in (".DS_Store", "deep/.nfs0001", "logs/later.txt"):
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text("2")
    assert Artifact.open(tmp_path / "a").manifest.files.keys() == {"w"}


def test_leftovers_of_a_killed_write_do_not_change_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".state.json.123.tmp").write_text("half")
    assert sealed(tmp_path / "a", {"w": "1"}).manifest.digest == sealed(tmp_path / "b", {"w": "1"}).manifest.digest


def test_expect_names_both_kinds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a checkpoint artifact, not a tokenizer"):
        sealed(tmp_path / "a", {"w": "1"}).expect("tokenizer")


def test_lineage_lists_each_ancestor_once_and_survives_a_move(tmp_path: Path) -> None:
    """The diamond of a soup: stage1 -> three anneals -> soup."""
    root = tmp_path / "run/artifacts"
    parent = sealed(root / "stage1", {"w": "0"})
    anneals = [sealed(root / f"anneal-{i}", {"w": str(i)}, [parent.ref], stage=f"anneal-{i}") for i in (1, 2, 3)]
    sealed(root / "soup", {"w": "mean"}, [a.ref for a in anneals], stage="soup")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    moved = Artifact.open(tmp_path / "moved/artifacts/soup")
    assert [a.manifest.stage for a in moved.lineage()] == ["stage1", "anneal-1", "anneal-2", "anneal-3", "soup"]
    shutil.rmtree(tmp_path / "moved/artifacts/anneal-2")
    sealed(tmp_path / "moved/artifacts/anneal-2", {"w": "another"}, stage="anneal-2")
    assert [a.manifest.stage for a in moved.parents()] == ["anneal-1", "anneal-3"]  # an impostor is no parent


def test_a_copy_answers_for_its_own_files(tmp_path: Path) -> None:
    """With the original still in place, the ancestors of a copy are the copy's, whose damage would be missed otherwise."""
    parent = sealed(tmp_path / "run/artifacts/stage1", {"w": "0"})
    sealed(tmp_path / "run/artifacts/soup", {"w": "mean"}, [parent.ref], stage="soup")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    copied, _ = Artifact.open(tmp_path / "copy/artifacts/soup").lineage()
    assert copied.folder == tmp_path / "copy/artifacts/stage1"
    shutil.rmtree(copied.folder)
    assert Artifact.open(tmp_path / "copy/artifacts/soup").parents()[0].folder == tmp_path / "run/artifacts/stage1"


def test_store_knows_a_name_only_when_it_is_complete(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    scratch = store.scratch("soup-1")
    (scratch / "out").mkdir()
    assert store.find("soup-1") is None
    with pytest.raises(Bug, match="before it was sealed"):
        store.commit("soup-1", scratch / "out")
    sealed(scratch / "out", {"w": "1"})
    assert store.find("soup-1") is None
    uri = store.commit("soup-1", scratch / "out")
    assert store.find("soup-1") == uri and store.fetch(uri) == tmp_path / "artifacts/soup-1"
    assert not (tmp_path / "work/soup-1").exists()
    with pytest.raises(UserError, match="no complete artifact"):
        store.fetch(str(tmp_path / "artifacts/none"))


def test_second_attempt_keeps_the_first_and_a_leftover_is_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "artifacts/a").mkdir(parents=True)
    (tmp_path / "artifacts/a/w").write_text("leftover of something, without a manifest")
    for text in ("first", "second"):
        sealed(tmp_path / text, {"w": text})
        store.commit("a", tmp_path / text)
    assert (tmp_path / "artifacts/a/w").read_text() == "first"
    assert not (tmp_path / "second").exists()


def _commit_for_ever(root: str) -> None:
    store = LocalStore(root)
    for i in range(100_000):
        folder = store.scratch(f"n{i}") / "out"
        sealed(folder, {"w": "x" * 5000, "v": str(i)})
        store.commit(f"n{i}", folder)


@pytest.mark.parametrize("delay", [0.3, 0.45, 0.6])
def test_sigkill_leaves_every_name_absent_or_complete(delay: float, tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_commit_for_ever, args=(str(tmp_path),))
    child.start()
    deadline = time.monotonic() + 30
    while not any(tmp_path.glob("artifacts/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    names = [p.name for p in (tmp_path / "artifacts").iterdir()]
    assert len(names) > 2
    for name in names:
        assert LocalStore(tmp_path).find(name) is not None
        Artifact.open(tmp_path / "artifacts" / name)


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_write_atomic_keeps_the_old_text_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, json.dumps({"step": 1}))
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, json.dumps({"step": 2}))
    assert json.loads(path.read_text()) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
