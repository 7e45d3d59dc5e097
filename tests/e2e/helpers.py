"""Runs of the product as a user starts it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Finished:
    """A run that has ended well."""

    out: Path
    stdout: str
    metrics: str  # the last answer of /metrics while it trained
    metrics_url: str
    listening: set[str]  # local addresses that its processes listened on, at any time, as /proc has them


ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "e2e" / "recipe.yaml"
STAGES = ["stage1", "ramp", "anneal-1", "anneal-2", "soup", "sft", "dpo", "rlvr"]


def environment() -> dict[str, str]:
    """A newcomer's, with one thread a process."""
    dropped = ("LEHR_DEBUG", "MLFLOW_TRACKING_URI", "PYTEST_CURRENT_TEST")
    return {**{k: v for k, v in os.environ.items() if k not in dropped}, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lehr.cli.main", *map(str, arguments)]


def lehr(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """`lehr ARGUMENTS`, run to its end."""
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), input=stdin, capture_output=True, text=True, timeout=400, check=False
    )


def run(out: Path, *more: str, recipe: Path = RECIPE) -> subprocess.CompletedProcess[str]:
    return lehr("run", recipe, "--out", out, *more)


def refused(result: subprocess.CompletedProcess[str], *says: str) -> None:
    """Exit code 2 and one line on standard error that holds all of `says`; no traceback anywhere."""
    errors = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode == 2, (result.returncode, result.stderr[-2000:])
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: "), errors
    for text in says:
        assert text in errors[0], (text, errors[0])
    assert "Traceback" not in result.stdout + result.stderr


def artifacts(out: Path, stages: Sequence[str] = ()) -> list[str]:
    """Names of the complete artifacts, of these stages or of all."""
    found = sorted(p.parent.name for p in out.glob("artifacts/*/artifact.json"))
    return [name for name in found if not stages or name.rsplit("-", 1)[0] in stages]
