"""Artifacts in an object store: absent or complete, whatever happens to who publishes them and to those who fetch."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lehr.analysis.runs import load
from lehr.artifacts.artifact import Artifact, ArtifactRef
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.object_store.capability_probe import require_conditions
from lehr.cli.locate import public_files
from lehr.infra.storage import S3Objects
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.runtime.errors import Preempted, UserError
from lehr.runtime.ports import Conflict, Store
from tests.staging import made
from tests.storage.machines import machine, sealed

ROOT = Path(__file__).resolve().parents[2]
FILES = {"a.txt": b"a", "empty": b"", "logs/curves.jsonl": b"{}\n", "deep/er/ä b.bin": bytes(range(256)) * 64}


def test_another_machine_finds_and_fetches_what_was_committed(root: str, tmp_path: Path) -> None:
    require_conditions(S3Objects(root))
    first, second = machine(root, tmp_path / "1"), machine(root, tmp_path / "2")
    assert first.find("s-1") is None
    fencing = first.begin("s-1")
    made = sealed(first.scratch("s-1", fencing) / "out-1", FILES)
    uri = first.commit("s-1", made.folder, fencing)
    assert uri == f"{root}/artifacts/s-1" == second.find("s-1")
    copy = Artifact.open(second.fetch(uri), uri=uri)
    assert copy.folder.is_relative_to(tmp_path / "2") and copy.ref == made.ref.model_copy(update={"uri": uri})
    assert {p: (copy.folder / p).read_bytes() for p in FILES} == FILES
    assert first.fetch(uri) != copy.folder and Artifact.open(first.fetch(uri)).manifest == copy.manifest
    assert not (tmp_path / "1" / "work").exists() or not list((tmp_path / "1" / "work").iterdir())
    assert {key.split("/")[0] for key in first.objects.keys("")} == {"artifacts", "attempts"}
    with pytest.raises(UserError, match="no complete artifact here"):
        second.fetch(f"{root}/artifacts/s-2")


def test_of_a_run_in_a_store_a_comparison_reads_logs_and_no_weights(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s-1")
    made = sealed(store.scratch("s-1", fencing) / "out-1", FILES)
    store.commit("s-1", made.folder, fencing)
    there = public_files(root, ("logs/curves.jsonl", "items.jsonl"))
    assert {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()} == {
        "artifacts/s-1/artifact.json", "artifacts/s-1/logs/curves.jsonl",
    }  # fmt: skip
    run = load(there, "s3")
    assert run.stages[0].curves == [{}] and run.missing[0] == "not finished"
    assert not [p for p in public_files(root).rglob("*") if p.name == "curves.jsonl"]  # others ask for none


def test_work_begun_under_another_name_is_found_under_the_artifacts(root: str, tmp_path: Path) -> None:
    """A stage that another layout may go on with begins under a name without the layout. Killed between its record's put and
    that of the artifact's name, the next attempt finds the artifact all the same."""
    first, second = machine(root, tmp_path / "1"), machine(root, tmp_path / "2")
    fencing = first.begin("begun")
    made = sealed(first.scratch("begun", fencing) / "out-1", FILES)
    uri = first.commit("named", made.folder, fencing)
    assert second.find("named") == uri and second.find("begun") is None
    assert Artifact.open(second.fetch(uri)).manifest == made.manifest
    first.objects.delete(["attempts/named.json"])
    assert second.find("named") is None
    assert second.begin("begun").number == 2
    assert second.find("named") == uri


def test_ranks_on_several_machines_may_use_either(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store, where tests/storage/test_apart.py has what they do there, and a folder that they share."""
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "RANK": "0", "GROUP_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)

    def work(attempt: Attempt) -> Outcome:
        (attempt.out / "a").write_text("a")
        return Outcome()

    def run(store: Store) -> ArtifactRef:
        return made(store, work, output="tokenizer")

    assert run(machine(root, tmp_path / "cache")).stage == "t"
    assert run(LocalStore(tmp_path / "shared")).stage == "t"


def test_a_child_finds_its_parent_by_its_address(root: str, tmp_path: Path) -> None:
    first, second = machine(root, tmp_path / "1"), machine(root, tmp_path / "2")
    fencing = first.begin("parent")
    parent = sealed(first.scratch("parent", fencing) / "out", FILES)
    uri = first.commit("parent", parent.folder, fencing)
    parent_ref = Artifact.open(first.fetch(uri), uri=uri).ref
    fencing = first.begin("child")
    child = sealed(first.scratch("child", fencing) / "out", FILES, [parent_ref])
    child_uri = first.commit("child", child.folder, fencing)
    second.fetch(uri)
    copy = Artifact.open(second.fetch(child_uri))
    assert copy.manifest.parents == [parent_ref]  # nothing of a machine is in it
    assert [a.ref for a in copy.parents()] == [parent_ref]


def test_of_many_attempts_at_once_the_last_alone_publishes(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: store.begin("s"), range(16)))
    assert sorted(fencing.number for fencing in claims) == list(range(1, 17))

    def publish(number: int) -> str:
        fencing = next(c for c in claims if c.number == number)
        made = sealed(tmp_path / str(number), {"a": b"a", "logs/who": str(number).encode()})
        try:
            return store.commit("s", made.folder, fencing)
        except Preempted as error:
            assert f"s: attempt {number} is over, attempt 16 began on" in str(error)
            return "overtaken"

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(publish, range(1, 17)))
    assert ends == ["overtaken"] * 15 + [f"{root}/artifacts/s"]
    fetched = machine(root, tmp_path / "other").fetch(ends[-1])
    assert (fetched / "logs/who").read_bytes() == b"16"
    assert {key.split("/")[2] for key in store.objects.keys("artifacts/")} == {"16"}  # nothing of the others is left


def test_of_writers_that_know_the_same_version_one_wins(root: str) -> None:
    objects = S3Objects(root)

    def write(version: str | None, value: str) -> str | None:
        try:
            return objects.put("k", value, version)
        except Conflict:
            return None

    version: str | None = None
    for turn in range(3):
        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(lambda n, t=turn, v=version: write(v, f"{t}-{n}"), range(8)))  # type: ignore[misc]
        (version,) = [v for v in versions if v is not None]
        assert objects.get("k") == (f"{turn}-{versions.index(version)}", version)
    assert write('"no such version"', "x") is None
    objects.delete(["k"])
    assert write(version, "x") is None  # who knows a version of what is gone is too late as well


def test_a_newer_attempt_that_begins_in_the_middle_of_an_upload_wins(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s")
    made = sealed(store.scratch("s", fencing) / "out", FILES)
    upload = store.objects.upload

    def overtaken(files: dict[str, Path]) -> None:
        upload(files)
        machine(root, tmp_path / "2").begin("s")

    store.objects.upload = overtaken  # type: ignore[method-assign, assignment]
    with pytest.raises(Preempted, match="attempt 1 is over, attempt 2 began"):
        store.commit("s", made.folder, fencing)
    assert store.find("s") is None
    assert store.objects.keys("artifacts/") == []


def test_what_was_damaged_in_the_store_is_not_taken(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s")
    uri = store.commit("s", sealed(store.scratch("s", fencing) / "out", FILES).folder, fencing)
    good = store.objects.get("artifacts/s/1/a.txt")
    assert good is not None
    version = store.objects.put("artifacts/s/1/a.txt", "b", good[1])
    other = machine(root, tmp_path / "2")
    with pytest.raises(UserError, match=r"s3://.*altered.*delete its record"):
        other.fetch(uri)
    store.objects.put("artifacts/s/1/a.txt", "a", version)
    assert (other.fetch(uri) / "a.txt").read_bytes() == b"a"


def test_a_store_writes_nothing_outside_of_the_copy(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s")
    uri = store.commit("s", sealed(store.scratch("s", fencing) / "out", FILES).folder, fencing)
    said = store.objects.get("artifacts/s/1/artifact.json")
    assert said is not None
    store.objects.put("artifacts/s/1/artifact.json", said[0].replace('"a.txt"', '"../../evil"'), said[1])
    with pytest.raises(UserError, match="leads out of its folder"):
        machine(root, tmp_path / "2").fetch(uri)
    assert not list((tmp_path / "2").rglob("evil"))


def test_processes_of_one_machine_share_a_download(root: str, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    fencing = store.begin("s")
    uri = store.commit("s", sealed(store.scratch("s", fencing) / "out", FILES).folder, fencing)
    half = tmp_path / "2" / "artifacts" / ".s.new"  # of a process that was killed
    half.mkdir(parents=True)
    (half / "a.txt").write_text("half")
    fetchers = [machine(root, tmp_path / "2") for _ in range(6)]
    downloads = []
    for fetcher in fetchers:
        real = fetcher.objects.download
        fetcher.objects.download = lambda files, real=real: (downloads.append(1), real(files))  # type: ignore
    with ThreadPoolExecutor(6) as pool:
        (folder,) = set(pool.map(lambda fetcher: fetcher.fetch(uri), fetchers))
    assert len(downloads) == 2  # the manifest, and what it names
    Artifact.open(folder)
    assert sorted(p.name for p in folder.parent.iterdir()) == [".s.lock", "s"]


@pytest.mark.slow
@pytest.mark.long
def test_killed_at_any_moment_an_upload_leaves_nothing_or_the_whole(root: str, tmp_path: Path) -> None:
    """A multipart upload and small files, killed soon after its beginning, somewhere in it, and right after its end."""
    made = sealed(tmp_path / "sealed", {"weights": os.urandom(22 << 20), **FILES})
    assert _killed(f"{root}/whole", made, tmp_path / "whole", None)
    _killed(f"{root}/somewhere", made, tmp_path / "somewhere", random.uniform(0.1, 1.0))  # absent or whole: it looks itself
    assert not _killed(f"{root}/soon", made, tmp_path / "soon", 0.05)
    other = machine(f"{root}/soon", tmp_path / "other")
    uri = other.commit("big", made.folder, other.begin("big"))
    assert Artifact.open(other.fetch(uri)).manifest.digest == made.manifest.digest
    assert {key.split("/")[2] for key in other.objects.keys("artifacts/")} == {"2"}  # what the killed one left is gone
    client = other.objects._client  # type: ignore[attr-defined]
    uploads = client.list_multipart_uploads(Bucket="lehr-tests").get("Uploads", [])
    assert not [u for u in uploads if "/soon/" in u["Key"]]


def _killed(root: str, made: Artifact, cache: Path, after_seconds: float | None) -> bool:
    """Publish a copy of `made` in a process that is killed so long after it began (None: at its end); whether another machine
    finds it then, whole."""
    shutil.copytree(made.folder, cache / "sealed", copy_function=os.link)
    command = [sys.executable, str(Path(__file__).with_name("machines.py")), "commit", root, str(cache), str(cache / "sealed")]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=path) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        if after_seconds is None:
            assert process.stdout.readline() == "committed\n"
        else:
            time.sleep(after_seconds)
        process.kill()
    other = machine(root, cache / "other")
    uri = other.find("big")
    if uri is None:
        with pytest.raises(UserError, match="no complete artifact"):
            other.fetch(f"{root}/artifacts/big")
        return False
    assert Artifact.open(other.fetch(uri)).manifest.digest == made.manifest.digest
    return True
