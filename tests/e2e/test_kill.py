"""SIGKILL at ten random moments, one in each of ten stages, a rank killed in another, SIGTERM in one, and each time the same
command again: the same bits at the end, and at no time half an artifact."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import helpers
import pytest
from helpers import Finished

from lehr.artifact import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_MARK = "LEHR_TEST_RUN"
KILLED_IN = ["documents", "shards", "stage1", "ramp", "anneal-2", "scores-soup", "sft", "pairs", "dpo", "rlvr"]


def _start(out: Path, stderr: int) -> subprocess.Popen[str]:
    """A run without MLflow, which is slow to load and has a test of kills of its own."""
    command, environment = helpers.command("run", helpers.RECIPE, "--out", out, "--no-mlflow"), helpers.environment()
    return subprocess.Popen(
        command, cwd=helpers.ROOT, env={**environment, _MARK: str(out)}, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def _kill_in(stage: str, delay_seconds: float, out: Path) -> bool:
    """Start the run and kill it `delay_seconds` after `stage` began; False if it was too quick for us."""
    killer: threading.Timer | None = None
    with _start(out, subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if f"  {stage}: started" in line and killer is None:
                killer = threading.Timer(delay_seconds, process.kill)
                killer.start()
        return process.wait() == -9


def _lose_a_rank_in(stage: str, out: Path) -> tuple[int, str]:
    """Start the run and kill rank 1 as soon as it is there after `stage` began; the exit code and standard error."""
    with _start(out, subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if f"  {stage}: started" in line:
                break
        while not (ranks := _ranks(out)) and process.poll() is None:
            time.sleep(0.01)
        for pid in ranks:
            os.kill(pid, signal.SIGKILL)
        process.stdout.read()
        return process.wait(), process.stderr.read()


def _terminate_in(stage: str, out: Path) -> tuple[int, str]:
    """Start the run and send SIGTERM to every process of it once `stage` has its ranks; exit code and standard error."""
    with _start(out, subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if f"  {stage}: started" in line:
                break
        while not _ranks(out) and process.poll() is None:
            time.sleep(0.01)
        for pid in _marked(out):
            os.kill(pid, signal.SIGTERM)
        process.stdout.read()
        return process.wait(), process.stderr.read()


def _marked(out: Path) -> dict[int, tuple[int, str]]:
    """Processes that carry this run's mark in their environment: {pid: (parent's pid, command line)}."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={out}".encode() in (place / "environ").read_bytes():
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                found[int(place.name)] = parent, (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def _ranks(out: Path) -> list[int]:
    """Ranks beyond the first: forked by the fork server, whose command line they share."""
    marked = _marked(out)
    return [
        pid for pid, (parent, line) in marked.items() if "forkserver" in line and "forkserver" in marked.get(parent, (0, ""))[1]
    ]


def _only_whole_artifacts(out: Path) -> None:
    for folder in (out / "artifacts").glob("*"):
        Artifact.open(folder)  # raises if it is incomplete or was altered


def test_ten_kills_change_nothing(finished: Finished, tmp_path: Path) -> None:
    rng, out, kills = random.Random(20), tmp_path / "run", 0
    for stage in KILLED_IN:
        if stage == "anneal-2":
            code, errors = _lose_a_rank_in("anneal-1", out)
            assert code == 75, (code, errors)
            assert errors.startswith("error: ") and "run the same command again" in errors and errors.count("\n") == 1, errors
        if stage == "sft":
            code, errors = _terminate_in(stage, out)
            assert code == 143, (code, errors)
            assert errors.startswith("error: ") and "stopped by SIGTERM" in errors and errors.count("\n") == 1, errors
        kills += _kill_in(stage, rng.uniform(0.0, 0.8), out)
        _only_whole_artifacts(out)
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
        if not _marked(out):
            break
        time.sleep(0.2)
    assert not _marked(out)
