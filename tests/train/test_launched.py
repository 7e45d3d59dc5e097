"""Under torchrun the life of a stage is rank 0's: the others follow, and all end alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _torchrun(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launcher, "-m", "tests.train.launched", str(folder), how]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _outcomes(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"rank-{rank}.json").read_text())


@pytest.mark.long
def test_every_rank_has_rank_zeros_result_or_its_error(tmp_path: Path) -> None:
    ended = _torchrun(tmp_path, "well")
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, other = _outcomes(tmp_path, 0), _outcomes(tmp_path, 1)
    assert first["listeners"] in ([], ["127.0.0.1"])  # of the ranks; the launcher's own store is the launcher's
    jobs = [[[0, "mine"], [1, "yours"], [2.0, 2.0]], [[0, 1], [1, 2], [2.0, 2.0]]]
    assert first["result"] == other["result"] == first["result again"] == other["result again"] == jobs
    for name, says in {
        "user error before anything is sent": "recipe.yaml: a bad recipe. Mend it.",
        "another number of ranks": "parallel.processes=3: the launcher started 2 ranks, the recipe asks for 3. "
        "Start 3 ranks, or set parallel.processes=2.",
    }.items():
        assert first[name] == other[name] == ["UserError", says]


@pytest.mark.parametrize(
    ("how", "first", "other", "says"),
    [
        pytest.param("user", "UserError", "UserError", "rank 1: no such thing. Give another.", marks=pytest.mark.long),
        # As it was raised; its owner is told to the other.
        pytest.param("disk", "OSError", "UserError", "the disk is full", marks=pytest.mark.long),
        pytest.param("bug", "Bug", "Bug", "nobody expected this", marks=pytest.mark.long),
    ],
)
def test_a_rank_that_fails_while_the_other_waits(tmp_path: Path, how: str, first: str, other: str, says: str) -> None:
    _torchrun(tmp_path, how)
    outcomes = [_outcomes(tmp_path, rank) for rank in (0, 1)]
    assert [kind for kind, _ in outcomes] == [first, other]
    assert says in outcomes[1][1] and (how == "disk" or outcomes[0] == outcomes[1])


@pytest.mark.long
def test_a_killed_rank_ends_all_with_one_verdict(tmp_path: Path) -> None:
    ended = _torchrun(tmp_path, "killed")
    assert ended.returncode == 1  # torchrun's own code, whatever its ranks end with
    assert _outcomes(tmp_path, 0) == ["InfraError", "rank 1 of 2 died; run the same command again to continue"]
    assert "exitcode  : 75" in ended.stderr and "exitcode  : -9" in ended.stderr  # its report has each rank's
