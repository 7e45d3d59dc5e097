"""The same run under torchrun: a rank is killed, SIGTERM comes, and it ends with the digests of `lehr run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import helpers
import pytest
from helpers import Finished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lehr.cli.main"]


def _torchrun(out: Path, *more: str, stage: str = "", then: Callable[[int, int], None] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and error. Once `stage` has begun, `then` is called with the launcher's and rank 1's pid."""
    command = [sys.executable, *LAUNCHER, "run", str(helpers.RECIPE), "--out", str(out), "--no-mlflow", *more]
    with subprocess.Popen(
        command, cwd=helpers.ROOT, env=helpers.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        said = ""
        for line in process.stdout:
            said += line
            if then is not None and f"  {stage}: started" in line:
                then(process.pid, _rank_one(process.pid))
        return process.wait(), said, process.stderr.read()


def _rank_one(launcher: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    return next(int(pid) for pid, environment in ranks.items() if b"RANK=1" in environment)


def _errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.long
def test_a_wrong_number_of_ranks_is_one_line(tmp_path: Path) -> None:
    _, _, said = _torchrun(tmp_path / "run", "--set", "parallel.processes=1")
    (line,) = _errors(said)
    assert "the launcher started 2 ranks, the recipe asks for 1" in line
    assert "exitcode  : 2 " in said and not (tmp_path / "run").exists()


@pytest.mark.long
def test_torchrun_ends_with_the_digests_of_lehr_run(finished: Finished, tmp_path: Path) -> None:
    """Two ranks, so that each sum has two terms and its order cannot matter: the bits are the same whichever way they came."""
    out = tmp_path / "run"
    code, _, said = _torchrun(out, stage="ramp", then=lambda _launcher, rank: os.kill(rank, signal.SIGKILL))
    assert code == 1 and len(_errors(said)) == 1 and "exitcode  : -9 " in said, said[-3000:]
    code, _, said = _torchrun(out, stage="sft", then=lambda launcher, _rank: os.kill(launcher, signal.SIGTERM))
    assert code != 0 and len(_errors(said)) == 1 and "stopped by SIGTERM" in _errors(said)[0], said[-3000:]
    code, printed, said = _torchrun(out)
    assert code == 0, said[-3000:]
    assert printed.count("talk:   lehr chat") == 1  # rank 1 says nothing
    ours, theirs = (
        {row["stage"]: row["digest"] for row in json.loads((o / "lineage.json").read_text())} for o in (finished.out, out)
    )
    assert ours == theirs
    assert not list((out / "work").iterdir())
