"""Errors: the sentence a user reads, the exit code, and that they cross process borders."""

from __future__ import annotations

import errno
import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from lehr.runtime.errors import Bug, InfraError, LehrError, Preempted, UserError, from_os_error


def test_user_error_reads_as_sentences() -> None:
    assert (
        str(UserError("seed: unknown key.", where="a.yaml", remedy="did you mean 'sead'?"))
        == "a.yaml: seed: unknown key. Did you mean 'sead'?"
    )
    assert str(UserError("not YAML")) == "not YAML."


@pytest.mark.parametrize("error", [UserError("w", where="p", remedy="r"), InfraError("i"), Preempted("p"), Bug("b")])
def test_errors_survive_pickling(error: LehrError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code, copy.owner) == (type(error), str(error), error.exit_code, error.owner)


def test_exit_codes_are_distinct() -> None:
    assert [e.exit_code for e in (UserError, InfraError, Preempted, Bug)] == [2, 75, 143, 70]


def test_every_mistake_of_an_input_survives_pickling() -> None:
    error = UserError("one", where="p", remedy="r")
    error.more = (UserError("two", where="q"), UserError("three"))
    copy = pickle.loads(pickle.dumps(error))
    assert [str(each) for each in (copy, *copy.more)] == ["p: one. r.", "q: two.", "three."]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_what_a_user_can_mend_is_a_user_error(code: int) -> None:
    error = from_os_error(OSError(code, "text", "/some/place"))
    assert isinstance(error, UserError) and error.where == "/some/place" and "--out" in error.remedy


def _meets(place: Path, work: Callable[[Path], object]) -> LehrError:
    """What the system says to `work` in a folder with a file, a full folder and a circle of links, as we tell it."""
    (place / "file").touch()
    (place / "folder/inner").mkdir(parents=True)
    (place / "a").symlink_to(place / "b")
    (place / "b").symlink_to(place / "a")
    with pytest.raises(OSError) as caught:
        work(place)
    return from_os_error(caught.value)


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda place: (place / "folder").mkdir(), "this name is already in use"),
        (lambda place: (place / "none").read_text(), "no such file or folder"),
        (lambda place: (place / "folder").read_text(), "a folder is where a file is needed"),
        (lambda place: (place / "file/inner").touch(), "a file is where a folder is needed"),
        (lambda place: (place / "folder").rmdir(), "a folder that is not empty has this name already"),
        (lambda place: (place / ("x" * 300)).touch(), "the name is too long"),
        (lambda place: (place / "a").read_text(), "its symbolic links form a circle"),
        (lambda place: os.rename(place / "folder", place / "folder/inner/deeper"), "the system does not accept such a path"),
        (lambda place: gzip.decompress(b"no gzip"), "damaged gzip file"),
    ],
)
def test_what_no_retry_mends_is_never_the_machines(work: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    error = _meets(tmp_path, work)
    assert isinstance(error, UserError) and says in str(error) and error.remedy


@pytest.mark.parametrize("code", [errno.EIO, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EMFILE, errno.ESTALE])
def test_other_failures_of_the_machine_may_be_retried(code: int) -> None:
    error = from_os_error(OSError(code, "as the system says", "/dev/x"))
    assert isinstance(error, InfraError) and str(error) == "/dev/x: as the system says"
    assert isinstance(from_os_error(OSError(errno.EINVAL, "Invalid argument")), InfraError)  # a socket's
