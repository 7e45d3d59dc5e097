"""Runs for these tests: a folder as `lehr run` leaves it, made up, and an exporter that serves."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lehr.config import load_recipe, recipe_yaml
from lehr.monitoring.exporter import About, PrometheusTracker

ROOT = Path(__file__).resolve().parents[3]
E2E = ROOT / "tests" / "e2e" / "recipe.yaml"
HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x1b[31m&{{7*7}}"


def row(step: int, **more: object) -> str:
    known = {"step": step, "tokens": 64 * step, "loss": 4.0 - step / 50, "grad_norm": 1.0 + 1 / step, "learning_rate": 1e-3}
    return json.dumps({**known, "seconds": 0.25, **more}) + "\n"


def curves(steps: int) -> str:
    lines = [row(step) for step in range(1, steps + 1)]
    return "".join([*lines, json.dumps({"step": steps, "tokens": 64 * steps, "dev_bits_per_byte": 2.5}) + "\n"])


def begin(folder: Path) -> Path:
    """A run that was opened and has made nothing yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe_yaml(load_recipe(E2E)))
    return folder


def work(folder: Path, stage: str, text: str) -> Path:
    """A stage that is under way. Returns its log."""
    log = folder / "work" / f"{stage}-0123456789ab" / "curves.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def made(folder: Path, stage: str, kind: str = "checkpoint", files: dict[str, Any] | None = None, log: str = "") -> Path:
    """A stage's artifact, complete."""
    place = folder / "artifacts" / f"{stage}-{'ba9876543210'}"
    (place / "logs").mkdir(parents=True)
    for name, content in (files or {}).items():
        (place / name).write_text(json.dumps(content))
    if log:
        (place / "logs" / "curves.jsonl").write_text(log)
    cost = {"seconds": 12.5, "tokens": 640, "energy_joules": 7200.0, "energy_source": "rapl"}
    (place / "artifact.json").write_text(json.dumps({"stage": stage, "kind": kind, "cost": cost}))
    return place


def scores(stage: str, value: float, answer: str = "5") -> dict[str, Any]:
    record = {
        "stage": stage,
        "task": "arithmetic",
        "split": "held_out",
        "metric": "accuracy",
        "value": value,
        "stderr": 0.02,
        "n": 60,
    }
    return {"scores.json": [record], "samples.json": [{"prompt": "2+3?", "expected": "5", "answer": answer, "family": "math"}]}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """As a run at work has it."""
    with (folder / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


STEP = {
    "loss": 2.5, "grad_norm": 1.5, "learning_rate": 1e-3, "tokens": 64.0, "step_seconds": 0.2, "forward_seconds": 0.05,
    "backward_seconds": 0.1, "data_seconds": 0.01, "optimizer_seconds": 0.02, "guard_loss_limit": 3.5,
}  # fmt: skip


@contextmanager
def exporter() -> Iterator[tuple[PrometheusTracker, str]]:
    """A run's tracker that serves, and where."""
    tracker = PrometheusTracker(About("tiny-1", "tiny", place="here"))
    tracker.exposition.fresh_seconds = 0.0
    try:
        yield tracker, tracker.start(0)
    finally:
        tracker.close(failed=True)
