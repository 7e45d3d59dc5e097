"""From exceptions to one line and an exit code."""

from __future__ import annotations

import errno
from pathlib import Path

import click
import pytest

from lehr.cli.failure import owned_error, report_failure
from lehr.cli.say import this_command
from lehr.runtime.errors import Bug, InfraError, Preempted, UserError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("bad key", where="a.yaml", remedy="mend it"), 2, "error: a.yaml: bad key. Mend it."),
        (InfraError("node gone"), 75, "error: node gone"),
        (Preempted("SIGTERM; run again"), 143, "error: SIGTERM; run again"),
        (OSError(errno.ENOSPC, "No space left on device", "/r/w"), 2, "error: /r/w: the disk is full. Free some space"),
        (OSError(errno.EIO, "Input/output error", "/r/w"), 75, "error: /r/w: Input/output error"),
        (KeyboardInterrupt(), 130, "interrupted; give the same command again to continue"),
        (click.Abort(), 130, "interrupted;"),
        (click.UsageError("No such\noption."), 2, "error: No such option."),
        (ModuleNotFoundError("no", name="kubernetes.client"), 2, "error: the package kubernetes is not installed. Install"),
    ],
)
def test_each_owner_has_its_line_and_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_failure(error) == code
    stderr = capsys.readouterr().err
    assert stderr.startswith(line) and stderr.count("\n") == 1


def test_the_unexpected_leaves_its_traceback_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        raise ZeroDivisionError("division\nby zero")
    except ZeroDivisionError as error:
        assert report_failure(error) == Bug.exit_code == 70
    stderr = capsys.readouterr().err
    (kept,) = tmp_path.iterdir()
    assert stderr.startswith("error: ZeroDivisionError: division by zero") and str(kept) in stderr and stderr.count("\n") == 1
    assert "test_the_unexpected_leaves" in kept.read_text()
    monkeypatch.setenv("LEHR_DEBUG", "1")
    report_failure(UserError("x"))
    assert "lehr.runtime.errors.UserError: x." in capsys.readouterr().err


def test_each_mistake_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError("first", where="a.yaml")
    error.more = (UserError("second", where="b.yaml"), UserError("third"))
    assert report_failure(error) == 2
    assert capsys.readouterr().err.splitlines() == ["error: a.yaml: first.", "error: b.yaml: second.", "error: third."]


def test_causes_and_groups_are_searched_and_circles_end() -> None:
    inner = UserError("deep")
    outer = RuntimeError("outer")
    outer.__cause__ = ExceptionGroup("both", [ValueError("no"), inner])
    inner.__cause__ = outer
    assert owned_error(outer) is inner
    assert owned_error(RuntimeError("plain")) is None


def test_a_printed_command_works_when_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of a run: where no PATH leads to this `lehr`, by the path that was typed."""
    for folder in ("bin", "my venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "lehr").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for typed, printed in (
        (tmp_path / "bin/lehr", "lehr"), (tmp_path / "my venv/bin/lehr", f"'{tmp_path}/my venv/bin/lehr'"),
        (tmp_path / "main.py", "lehr"),
    ):  # fmt: skip
        monkeypatch.setattr("sys.argv", [str(typed), "run"])
        assert this_command() == printed
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [".venv/bin/lehr"])
    assert this_command() == ".venv/bin/lehr"
