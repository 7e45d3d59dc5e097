"""Runs for the tests of commands: a real one of one pretraining stage and its scores, made once, and one made up."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost, Kind
from lehr.cli.main import main

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


def lehr(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lehr.cli.main", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"COLUMNS": "120"} | environment,
    )


def seal(
    folder: Path,
    kind: Kind,
    stage: str,
    parents: list[ArtifactRef],
    cost: Cost,
    files: dict[str, bytes],
    frozen: str = "",
) -> ArtifactRef:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    meta = {"s": stage} | ({"frozen": frozen} if frozen else {})
    made = Artifact.seal(
        folder, kind=kind, stage=stage, fingerprint="f", parents=parents, config={}, code="c", meta=meta, cost=cost
    )
    return made.ref


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder: documents -> stage1 -> two anneals -> soup, with costs, scores and dropped documents."""
    root = tmp_path / "run"
    dropped = [
        {"id": "plays/7", "source": "plays", "reason": "too_short", "detail": "12 words"},
        {"id": "bible/1", "source": "bible", "reason": "duplicate"},
        {"id": "plays/9", "source": "plays", "reason": "duplicate"},
    ]
    lines = "".join(json.dumps(d) + "\n" for d in dropped)
    documents = seal(
        root / "artifacts/documents-1",
        "documents",
        "documents",
        [],
        Cost(seconds=5),
        {"dropped.jsonl.gz": gzip.compress(lines.encode())},
    )
    cost = Cost(seconds=100, tokens=1000, flops=2e9, energy_joules=1800, energy_source="estimate")
    stage1 = seal(root / "artifacts/stage1-1", "checkpoint", "stage1", [documents], cost, {"w": b"0"})
    anneals = [
        seal(root / f"artifacts/anneal-{s}-1", "checkpoint", f"anneal-{s}", [stage1], cost, {"w": bytes([s])}) for s in (1, 2)
    ]
    soup = seal(root / "artifacts/soup-1", "checkpoint", "soup", anneals, Cost(seconds=1), {"w": b"m"})

    def record(stage: str, value: float, stderr: float | None) -> dict[str, Any]:
        return {
            "stage": stage,
            "task": "arithmetic",
            "split": "held_out",
            "metric": "accuracy",
            "value": value,
            "stderr": stderr,
            "n": 300,
            "seed": 7,
        }

    scores = [
        record("stage1", 0.01, 0.005),
        record("anneal-1", 0.8, 0.023),
        record("anneal-2", 0.7, 0.026),
        record("soup", 0.85, None),
    ]
    (root / "scores.json").write_text(json.dumps(scores))
    for made in (stage1, *anneals, soup):
        own = [row for row in scores if row["stage"] == made.stage]
        content = {"scores.json": json.dumps(own).encode()}
        seal(root / f"artifacts/scores-{made.stage}-1", "scores", f"scores-{made.stage}", [made], Cost(), content, made.digest)
    return root
