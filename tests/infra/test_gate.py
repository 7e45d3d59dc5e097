"""The gate as a process: it lets a pod go on, or holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import Outcome, Verdict
from tests.infra.world import verdict

ROOT = Path(__file__).resolve().parents[2]


def gate(path: Path, seconds: float = 60.0) -> subprocess.Popen[str]:
    env = {**os.environ, "LEHR_VERDICT": str(path), "LEHR_GATE_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "lehr.infra.pod.gate"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "text",
    [
        encode(verdict(Outcome.PASS)),
        encode(verdict(Outcome.PERFORMANCE_FAILURE)),
        encode(verdict(Outcome.INCONCLUSIVE)),
        encode(verdict(confirmed=False)),
        "{ not a verdict",
        None,
    ],
)
def test_gate_lets_everything_pass_but_a_confirmed_hardware_failure(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "verdict.json"
    if text is not None:
        path.write_text(text)
    process = gate(path)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in out + err


def bad(tmp_path: Path) -> Path:
    path = tmp_path / "verdict.json"
    path.write_text(encode(Verdict(Outcome.HARDWARE_FAILURE, "1", "matmul", "MatmulMismatch", confirmed=True)))
    return path


def test_gate_holds_a_bad_pod_and_gives_up_with_the_reserved_code(tmp_path: Path) -> None:
    process = gate(bad(tmp_path), seconds=1.0)
    began = time.monotonic()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 171
    assert time.monotonic() - began >= 1.0
    assert "MatmulMismatch" in out


def test_gate_leaves_at_once_when_the_pod_is_removed_and_never_as_if_it_had_passed(tmp_path: Path) -> None:
    process = gate(bad(tmp_path))
    assert process.stdout is not None
    assert "held" in process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 20  # of the 60 seconds that it holds a pod
    assert process.returncode == 143
    assert "Traceback" not in err
