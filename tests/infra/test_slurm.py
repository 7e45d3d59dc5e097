"""The two scripts of docs/slurm.md, with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import Outcome, Verdict

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")


def script(name: str, folder: Path) -> Path:
    found = re.search(rf"<!-- {name}: .*?-->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    path = folder / f"{name}.sh"
    path.write_text(found.group(1), encoding="utf-8")
    return path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("code", [0, 2, 75, 170, 172, 173, 247])
def test_a_job_that_a_retry_can_help_goes_back_into_the_queue(code: int, tmp_path: Path) -> None:
    """`srun` here is a program that ends so; the line that it is given is what the next test runs."""
    program(tmp_path / "bin" / "srun", f'echo "$@" >{tmp_path}/line; exit {code}')
    program(tmp_path / "bin" / "scontrol", f'[ "$1" = show ] && echo node-1 || echo "$@" >{tmp_path}/queue')
    done = subprocess.run(["bash", script("job", tmp_path)], env=environment(tmp_path), capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "queue").exists() == (code in (75, 170, 172, 173, 247))
    if code == 170:
        assert (tmp_path / "queue").read_text() == "requeue 7\n"
    line = (tmp_path / "line").read_text().split()
    assert line[line.index("--rdzv-endpoint") + 1].startswith("node-1:") and line[-3:] == ["recipe.yaml", "--out", "/shared/x"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node-1", "SLURM_JOB_NUM_NODES": "1", "RANKS": "2"}
    own = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHON": sys.executable, "RECIPE": "recipe.yaml", "OUT": "/shared/x"}
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **job, **own, **more}


@pytest.mark.long
@pytest.mark.slow
def test_ranks_of_a_job_end_with_the_code_of_their_mistake(tmp_path: Path) -> None:
    """The whole line, with two ranks: supervisor, launcher, `lehr run`. A mistake stays ended."""
    program(tmp_path / "bin" / "srun", 'shift; exec "$@"')
    program(tmp_path / "bin" / "scontrol", f'[ "$1" = show ] && echo 127.0.0.1 || echo "$@" >{tmp_path}/queue')
    told = environment(tmp_path, RECIPE=str(tmp_path / "nowhere.yaml"), OUT=str(tmp_path / "run"), PORT="0")
    done = subprocess.run(["bash", script("job", tmp_path)], env=told, capture_output=True, text=True, check=False, timeout=120)
    assert "nowhere.yaml" in done.stderr and not (tmp_path / "queue").exists(), done.stderr[-2000:]
    assert done.returncode in (1, 2)  # torchrun makes 1 of its ranks' 2


@pytest.mark.parametrize(
    ("outcome", "confirmed", "code"), [("pass", False, 0), ("hardware", False, 0), ("hardware", True, 171)]
)
def test_the_prolog_fails_for_confirmed_hardware_failures_alone(
    outcome: str, confirmed: bool, code: int, tmp_path: Path
) -> None:
    """The probes are a stand-in that leaves a verdict; the gate is the real one."""
    kind = Outcome.PASS if outcome == "pass" else Outcome.HARDWARE_FAILURE
    verdict = encode(Verdict(kind, "1", "matmul", "MatmulMismatch", "bit 3", confirmed=confirmed, finished_at=1.8e9))
    (tmp_path / "verdict").write_text(verdict)
    python = tmp_path / "bin" / "python"
    found = f'echo "$LEHR_EXPECTED_GPUS $CUDA_VISIBLE_DEVICES" >{tmp_path}/seen; cp {tmp_path}/verdict "$LEHR_VERDICT"'
    program(python, f'if [ "$2" = lehr.infra.pod.probes ]; then {found}; else exec {sys.executable} "$@"; fi')
    told = environment(tmp_path, PYTHON=str(python), SLURM_JOB_GPUS="0,2,5")
    done = subprocess.run(["bash", script("prolog", tmp_path)], env=told, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "seen").read_text() == "3 0,2,5\n"
    assert not list(Path("/tmp").glob("lehr-preflight.*"))


def test_a_job_without_gpus_is_not_tested(tmp_path: Path) -> None:
    told = environment(tmp_path, PYTHON="/nowhere/python")
    told.pop("SLURM_JOB_GPUS", None)
    assert subprocess.run(["bash", script("prolog", tmp_path)], env=told, check=False).returncode == 0
