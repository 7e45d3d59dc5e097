"""A small MLflow server in a process, and a tracker that writes to it: a helper of the tests beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lehr.monitoring import mlflow_store
from lehr.monitoring.mlflow_spool import FOLDER
from lehr.monitoring.mlflow_tracker import MlflowTracker

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("loss", "grad_norm", "learning_rate")
SCORE: dict[str, object] = {"task": "prose", "split": "dev", "metric": "loss", "value": 2.0, "stderr": 0.1}


class Server:
    """The server as a process, at one address over all its lives."""

    def __init__(self, file: Path, loaded: subprocess.Popen[str] | None = None) -> None:
        self.file, self.port, self.process, self._loaded = file, 0, 0, loaded
        mlflow_store.prepare(f"sqlite:///{file}")

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, lose: int = 0, refuse: str = "") -> Server:
        assert self._loaded is not None and self._loaded.stdin is not None and self._loaded.stdout is not None
        asked = {"port": self.port, "file": str(self.file), "lose": lose, "refuse": refuse}
        self._loaded.stdin.write(json.dumps(asked) + "\n")
        self._loaded.stdin.flush()
        self.process, self.port = map(int, self._loaded.stdout.readline().split())
        return self

    def kill(self) -> None:
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            self.process = 0

    def points(self) -> Counter[tuple[str, str, int]]:
        """How often each point is there, by run, metric and step."""
        query = "SELECT r.name, m.key, m.step FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key NOT LIKE 'system/%'"
        return Counter(self.rows(query))

    def rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.file, timeout=20)) as db:
            return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def loaded() -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded MLflow and starts servers."""
    command = [sys.executable, "-m", "tests.monitoring.mlflow_server"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    yield process
    process.communicate(timeout=30)


@pytest.fixture
def server(tmp_path: Path, loaded: subprocess.Popen[str]) -> Iterator[Server]:
    made = Server(tmp_path / "server.db", loaded)
    yield made
    made.kill()


def tracker(server: Server, folder: Path, **changes: Any) -> MlflowTracker:
    options = {"run_key": "here", "pending": folder / FOLDER, "flush_seconds": 0.1, **changes}
    return MlflowTracker(server.uri, "lehr", "tiny", None, {"seed": 7}, **options)


def steps(tracking: MlflowTracker, first: int, last: int, total: int, pause: float = 0.0) -> None:
    for step in range(first, last + 1):
        tracking.progress("stage1", step, total, dict.fromkeys(KEYS, 1.0 / step))
        if step % 10 == 0:
            tracking.evaluated("stage1", step, {"dev_loss": 1.0 / step})
        time.sleep(pause)


def wanted(last: int, *more: tuple[str, str, int]) -> set[tuple[str, str, int]]:
    """The points of the steps 1 to `last`."""
    found = {("stage1", key, step) for key in KEYS for step in range(1, last + 1)}
    return found | {("stage1", "dev_loss", step) for step in range(10, last + 1, 10)} | set(more)


def until_sent(tracking: MlflowTracker) -> None:
    deadline = time.monotonic() + 60
    while tracking.waiting:
        assert time.monotonic() < deadline
        time.sleep(0.05)
