"""Ctrl-C on real runs: while documents are prepared, in a step, to the whole group, under torchrun, and twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import helpers
import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lehr.cli.main"]


def _interrupted(out: Path, stage: str, act: Callable[[int], None], lehr: list[str] | None = None) -> tuple[int, list[str]]:
    """The run in `out`, gone on with until `stage` has begun and `act` was called with its process: exit code, lines of stderr.
    A stage that trains has made new steps by then."""
    rest = ["run", str(helpers.RECIPE), "--out", str(out), "--no-mlflow", "--set", "parallel.processes=2"]
    command = [*(lehr or helpers.command()), *rest]
    before = _saves(out)
    with subprocess.Popen(
        command, cwd=helpers.ROOT, env=helpers.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        begun = False
        for line in process.stdout:
            if not begun and f"  {stage}: started" in line:
                begun = True
                while stage != "documents" and not _saves(out) - before and process.poll() is None:
                    time.sleep(0.01)
                act(process.pid)
        errors = process.stderr.read().splitlines()
        assert begun, errors
        return process.wait(), errors


def _others(leader: int) -> list[int]:
    """The ranks beyond the first: children of the leader's fork server."""
    return [rank for child in _children(leader) for rank in _children(child)]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _press(leader: int) -> None:
    os.kill(leader, signal.SIGINT)


def _press_in_the_terminal(leader: int) -> None:
    os.killpg(leader, signal.SIGINT)


def _press_twice_while_a_rank_hangs(leader: int) -> None:
    """No step ends any more, and the leader waits in native code."""
    ranks = _others(leader)
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    try:
        for _ in range(2):
            time.sleep(0.8)
            _press(leader)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for rank in ranks:  # who would hold the leader's streams open
            os.kill(rank, signal.SIGKILL)
    assert ranks


def _saves(out: Path) -> set[Path]:
    return set(out.glob("work/*/resume/state-*.json"))


def test_the_first_is_heard_and_saves_the_second_ends_at_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, errors = _interrupted(out, "documents", _press)
    assert (code, errors) == (130, ["interrupted; give the same command again to continue"])

    for stage, press in (("stage1", _press), ("ramp", _press_in_the_terminal)):
        before = _saves(out)
        code, errors = _interrupted(out, stage, press)
        assert code == 130 and len(errors) == 1, (code, errors)
        assert errors[0].startswith(f"{stage} was interrupted after step ") and "which is saved" in errors[0], errors
        assert _saves(out) - before

    code, errors = _interrupted(out, "anneal-1", _press_in_the_terminal, TORCHRUN)
    assert code != 0 and [line for line in errors if line.startswith("anneal-1 was interrupted after step")], errors[-40:]
    assert not [line for line in errors if line.startswith("error: ")]

    code, errors = _interrupted(out, "anneal-1", _press_twice_while_a_rank_hangs)
    assert code == 130 and len(errors) == 1 and errors[0].startswith("interrupted twice and ended at once; "), (code, errors)


def test_sigterm_ends_a_run_whose_stderr_nobody_reads(tmp_path: Path) -> None:
    """With its own code, and soon."""
    read, write = os.pipe()
    os.close(read)
    command = [*helpers.command(), "run", str(helpers.RECIPE), "--out", str(tmp_path / "run"), "--no-mlflow"]
    with subprocess.Popen(
        command, cwd=helpers.ROOT, env=helpers.environment(), stdout=subprocess.PIPE, stderr=write, text=True
    ) as process:
        os.close(write)
        assert process.stdout is not None
        next(line for line in process.stdout if "  documents: started" in line)
        process.terminate()
        assert process.wait(timeout=60) == 143


def test_a_stage_that_diverges_is_the_recipes_and_never_sealed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    helpers.refused(helpers.run(out, "--no-mlflow", "--set", "stage1.optim.lr=1e30"), "training diverged", "learning rate")
    assert helpers.artifacts(out) and not helpers.artifacts(out, ["stage1"])
