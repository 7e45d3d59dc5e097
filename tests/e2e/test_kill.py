"""SIGKILL at ten random moments, one in each of ten stages, and the same command again: the same bits at the end."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from pathlib import Path

import helpers
import pytest
from helpers import Finished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_MARK = "LEHR_TEST_RUN"
KILLED_IN = ["documents", "shards", "stage1", "ramp", "anneal-2", "scores-soup", "sft", "pairs", "dpo", "rlvr"]


def _kill_in(stage: str, delay_seconds: float, out: Path) -> bool:
    """Start the run and kill it `delay_seconds` after `stage` began; False if it was too quick for us."""
    process = subprocess.Popen(
        helpers.command("run", helpers.RECIPE, "--out", out), cwd=helpers.ROOT, env={**helpers.environment(), _MARK: str(out)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    killer: threading.Timer | None = None
    for line in process.stdout:
        if f"  {stage}: started" in line and killer is None:
            killer = threading.Timer(delay_seconds, process.kill)
            killer.start()
    return process.wait() == -9


def _left_over(out: Path) -> list[str]:
    """Command lines of processes that still carry this run's mark in their environment, ranks among them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={out}".encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def test_ten_kills_change_nothing(finished: Finished, tmp_path: Path) -> None:
    rng, out = random.Random(20), tmp_path / "run"
    kills = sum(_kill_in(stage, rng.uniform(0.0, 0.8), out) for stage in KILLED_IN)
    assert kills >= 7  # a stage of half a second may be over before we strike
    last = helpers.run(out)
    assert last.returncode == 0, last.stderr
    ours, theirs = (
        {row["stage"]: row["digest"] for row in json.loads((o / "lineage.json").read_text())} for o in (finished.out, out)
    )
    assert ours == theirs
    assert (out / "scores.json").read_text() == (finished.out / "scores.json").read_text()
    assert not list((out / "work").iterdir())
    for _ in range(100):
        if not _left_over(out):
            break
        time.sleep(0.2)
    assert not _left_over(out)
