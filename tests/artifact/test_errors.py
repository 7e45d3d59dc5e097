"""Errors: the sentence a user reads, the exit code, and that they cross process borders."""

from __future__ import annotations

import errno
import pickle

import pytest

from lehr.errors import Bug, InfraError, LehrError, Preempted, UserError, from_os_error


def test_user_error_reads_as_sentences() -> None:
    assert (
        str(UserError("seed: unknown key.", where="a.yaml", remedy="did you mean 'sead'?"))
        == "a.yaml: seed: unknown key. did you mean 'sead'?"
    )
    assert str(UserError("not YAML")) == "not YAML."


@pytest.mark.parametrize("error", [UserError("w", where="p", remedy="r"), InfraError("i"), Preempted("p"), Bug("b")])
def test_errors_survive_pickling(error: LehrError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code, copy.owner) == (type(error), str(error), error.exit_code, error.owner)


def test_exit_codes_are_distinct() -> None:
    assert [e.exit_code for e in (UserError, InfraError, Preempted, Bug)] == [2, 75, 143, 70]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_what_a_user_can_mend_is_a_user_error(code: int) -> None:
    error = from_os_error(OSError(code, "text", "/some/place"))
    assert isinstance(error, UserError) and error.where == "/some/place" and "--out" in error.remedy


def test_other_failures_of_the_machine_may_be_retried() -> None:
    error = from_os_error(OSError(errno.EIO, "Input/output error", "/dev/x"))
    assert isinstance(error, InfraError) and str(error) == "/dev/x: Input/output error"
