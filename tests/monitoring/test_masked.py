"""Passwords of the environment are found in nothing that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.cli.failure import report_failure
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.runtime.errors import InfraError
from lehr.runtime.redaction import masked

SECRET = "planted-8c1f"


def test_a_password_in_an_address_or_a_variable_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")
        assert masked(f"tried {SECRET}-{name}, refused") == "tried ***, refused"
    assert masked(f"at http://user:{SECRET}@host:80/a and s3://bucket/a@b") == "at http://***@host:80/a and s3://bucket/a@b"
    assert (
        masked(f"sqlite:////a/b.db postgresql://u:p@{SECRET[:4]}/x@h") == f"sqlite:////a/b.db postgresql://***@{SECRET[:4]}/x@h"
    )


def test_mlflow_that_is_away_is_named_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    address = f"http://somebody:{SECRET}@127.0.0.1:9"
    tracker = MlflowTracker(address, "e", "r", flush_seconds=0.05)
    tracker._say(f"cannot reach {address}/api: refused")
    tracker.close(timeout_seconds=0.1)
    said = [record.getMessage() for record in caplog.records if record.name == "lehr.monitoring"]
    assert said and SECRET not in "".join(said) and "127.0.0.1:9" in said[0]


def test_an_error_and_a_kept_traceback_hold_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("LEHR_DEBUG", "1")
    report_failure(InfraError(f"http://user:{SECRET}@host is away"))
    report_failure(ZeroDivisionError(f"http://user:{SECRET}@host"))
    (kept,) = tmp_path.iterdir()
    assert SECRET not in capsys.readouterr().err + kept.read_text(encoding="utf-8")
