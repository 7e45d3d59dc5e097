"""The life of a stage: found again, gone on with, complete or absent."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact, ArtifactRef, sha256_file
from lehr.artifacts.folder_store import LocalStore
from lehr.data.tokenizer import Tokenizer
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.run import ATTEMPTS, run_stage
from lehr.pipeline.spec import Inputs, Outcome, StageConfig, StageSpec
from lehr.runtime.errors import InfraError, LehrError, Preempted, UserError
from tests.staging import made


class Work:
    """Writes a file, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, attempt: Attempt) -> Outcome:
        self.calls += 1
        (attempt.out / "file").write_text("content")
        return Outcome({"n": 1})


def _run(root: Path, work: Work, config: dict[str, object] | None = None, parents: list[Artifact] | None = None) -> ArtifactRef:
    return made(LocalStore(root), work, "s", output="tokenizer", values=config, parents=parents or [])


def test_a_finished_stage_is_found_again_and_a_changed_one_is_not(tmp_path: Path) -> None:
    work = Work()
    first = _run(tmp_path, work)
    assert _run(tmp_path, work) == first
    assert work.calls == 1
    other = _run(tmp_path, work, {"lr": 2})
    assert work.calls == 2
    child = _run(tmp_path, work, parents=[Artifact.open(first.uri)])
    assert work.calls == 3
    assert len({first.uri, other.uri, child.uri}) == 3


class FileConfig(StageConfig):
    path: Path

    def described(self) -> dict[str, object]:
        return {"path": sha256_file(self.path)}


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """The name of an artifact says what the file held; more than that was read."""
    corpus, store = tmp_path / "corpus.jsonl", LocalStore(tmp_path / "run")
    corpus.write_text("one\n")

    def reads(config: FileConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
        with corpus.open("a") as more:
            more.write("two\n")
        (attempt.out / "read").write_text(corpus.read_text())
        return Outcome({})

    def documents(run: Callable[[FileConfig, Inputs, Attempt], Outcome]) -> ArtifactRef:
        spec = StageSpec("test", FileConfig, {}, "documents", "cpu", "data", run)
        return run_stage(spec, "documents", FileConfig(path=corpus), spec.inputs({}), StageContext(store))

    with pytest.raises(UserError, match="`path` changed while it was read"):
        documents(reads)
    assert not (tmp_path / "run/artifacts").exists()
    documents(lambda config, inputs, attempt: Outcome({}))  # now that nobody writes to it


def test_an_interrupted_stage_leaves_its_scratch_and_no_artifact(tmp_path: Path) -> None:
    def dies(attempt: Attempt) -> Outcome:
        (attempt.out / "file").write_text("half")
        (attempt.scratch / "resume").write_text("kept")
        raise InfraError("power")

    store = LocalStore(tmp_path)
    with pytest.raises(InfraError):
        made(store, dies, "s", output="tokenizer")
    assert not (tmp_path / "artifacts").exists()
    seen: list[str] = []

    def goes_on(attempt: Attempt) -> Outcome:
        seen.append((attempt.scratch / "resume").read_text())
        assert not (attempt.out / "file").exists()
        return Outcome()

    made(store, goes_on, "s", output="tokenizer")
    assert seen == ["kept"]
    assert not list((tmp_path / "work").iterdir())


def test_a_newer_attempt_has_a_folder_of_its_own_and_the_older_one_ends(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def newer(attempt: Attempt, older: Attempt) -> Outcome:
        (attempt.out / "file").write_text("new")
        with pytest.raises(FileNotFoundError):
            (older.out / "stray").write_text("old")
        return Outcome()

    refs = []

    def overtaken(attempt: Attempt) -> Outcome:
        work = lambda newest: newer(newest, attempt)
        refs.append(made(store, work, "s", output="tokenizer"))
        (attempt.out / "file").write_text("old")
        return Outcome()

    with pytest.raises(Preempted, match="attempt 1 is over, attempt 2 began"):
        made(store, overtaken, "s", output="tokenizer")
    assert (Path(refs[0].uri) / "file").read_text() == "new"
    assert list(Artifact.open(refs[0].uri).manifest.files) == ["file"]


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_artifact_is_named(tmp_path: Path, damage: str) -> None:
    path = Path(_run(tmp_path, Work()).uri) / "file"
    if damage == "remove":
        path.unlink()
    else:
        path.write_text("conten" if damage == "truncate" else "cOntent")
    with pytest.raises(UserError) as caught:
        _run(tmp_path, Work())
    assert str(path) in str(caught.value)
    assert "run the same command again" in str(caught.value)


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission denied"), (errno.EROFS, "read-only")]
)
def test_the_disks_troubles_are_the_users_to_mend(tmp_path: Path, number: int, says: str) -> None:
    def fails(attempt: Attempt) -> Outcome:
        raise OSError(number, "no", str(attempt.out / "file"))

    with pytest.raises(UserError, match=says):
        made(LocalStore(tmp_path), fails, "s", output="tokenizer")


def test_tokenizers_hash_is_not_its_path(tmp_path: Path) -> None:
    trained = Tokenizer.train(["a b c"], 300)
    for name in ("x", "y"):
        trained.save(tmp_path / name)
    assert Tokenizer.load(tmp_path / "x").hash == Tokenizer.load(tmp_path / "y").hash


def _ends(root: Path, error: BaseException | None) -> None:
    def work(attempt: Attempt) -> Outcome:
        if error is not None:
            raise error
        (attempt.out / "file").write_text("content")
        return Outcome({"n": 1})

    with contextlib.suppress(LehrError, ZeroDivisionError):
        made(LocalStore(root), work, "s", output="tokenizer")


def test_every_attempt_counts_once_by_who_ended_it(tmp_path: Path) -> None:
    ATTEMPTS.clear()
    ends = [UserError("x"), InfraError("x"), OSError(errno.EIO, "broken"), Preempted("x"), ZeroDivisionError(), None, None]
    for error in ends:
        _ends(tmp_path, error)
    _ends(tmp_path / "other", None)
    found = {key: seen.total for key, seen in ATTEMPTS.read().items()}
    own = {"user": 1, "machine": 2, "preempted": 1, "lehr": 1, "finished": 2}  # the second of the last two found the first's
    assert found == {("s", ended): count for ended, count in own.items()}
