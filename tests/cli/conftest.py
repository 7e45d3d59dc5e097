"""A run of one pretraining stage and its scores, made once for all tests of commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import main

ROOT = Path(__file__).resolve().parents[2]
E2E = ROOT / "tests" / "e2e" / "recipe.yaml"
SHORT = (
    "ramp=null", "anneals=null", "posttraining=[]", "stage1.tokens=8192", "stage1.schedule.horizon_tokens=20000",
    "parallel.processes=1", "evaluation.tasks=[{task: prose, limit: 4}, {task: arithmetic, limit: 4}]",
)  # fmt: skip

Again = Callable[..., int]


@pytest.fixture(scope="session")
def again() -> Again:
    """Runs the short recipe into a folder, with further --set values. Returns the exit code."""

    def run(out: Path, *more: str) -> int:
        sets = [word for value in (*SHORT, *more) for word in ("--set", value)]
        return main(["run", str(E2E), "--out", str(out), "--no-mlflow", *sets])

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, again: Again) -> Path:
    """The run's folder. Tests only read it."""
    out = tmp_path_factory.mktemp("commands") / "trained"
    assert again(out) == 0
    return out
