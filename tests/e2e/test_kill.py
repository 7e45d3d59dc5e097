"""SIGKILL at ten random moments, one in each of ten stages, a rank killed in another, SIGTERM in one, and each time the same
command again: the same bits at the end, and at no time half an artifact."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import helpers
import pytest
from helpers import Finished
from preloaded import Command, Preloaded

from lehr.artifacts.artifact import Artifact

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
Act = Callable[[Command], object]
KILLED_IN = ["documents", "shards", "stage1", "ramp", "anneal-2", "scores-soup", "sft", "pairs", "dpo", "rlvr"]


@pytest.fixture
def preloaded() -> Iterator[Preloaded]:
    with tempfile.TemporaryDirectory() as temporary:  # a short name: sockets of the ranks lie under it
        server = Preloaded(Path(temporary))
        yield server
        server.close()


class Runs:
    """The same command, again and again. Without MLflow, which is slow to load and has a test of kills of its own."""

    def __init__(self, preloaded: Preloaded, out: Path) -> None:
        self._preloaded, self.out, self.sessions = preloaded, out, set[int]()

    def run(self, stage: str, then: Act, after: Act | None = None) -> tuple[int, str]:
        """Do `then` as soon as `stage` begins, which it may not, and `after` when others begin; exit code and stderr."""
        with self._preloaded.lehr("run", helpers.RECIPE, "--out", self.out, "--no-mlflow") as command:
            self.sessions.add(command.pid)
            begun = False
            for line in command.output:
                if begun and after is not None and ": started" in line:
                    after(command)
                if f"  {stage}: started" in line:
                    begun = True
                    then(command)
            code = command.wait()
            assert code is not None
            return code, command.errors.read()

    def kill_in(self, stage: str, delay_seconds: float) -> bool:
        """Kill the leader `delay_seconds` after `stage` began, or when the next stage begins; False if the run ended before."""
        timers: list[threading.Timer] = []

        def strike(run: Command) -> None:
            _strike([run.pid], signal.SIGKILL)

        def later(run: Command) -> None:
            timers.append(threading.Timer(delay_seconds, strike, [run]))
            timers[0].start()

        try:
            return self.run(stage, later, strike)[0] == -9
        finally:
            for timer in timers:
                timer.cancel()

    def lose_a_rank_in(self, stage: str) -> tuple[int, str]:
        """Kill rank 1 as soon as it is there."""
        return self.run(stage, lambda run: _strike(_ranks(run), signal.SIGKILL))

    def terminate_in(self, stage: str) -> tuple[int, str]:
        """Send SIGTERM to every process of the run once `stage` has its ranks."""
        return self.run(stage, lambda run: _ranks(run) and _strike(list(_parents({run.pid})), signal.SIGTERM))


def _strike(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _parents(sessions: set[int]) -> dict[int, int]:
    """{pid: parent's pid} of the processes of these sessions that are not yet ended."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) in sessions and state != "Z":
            found[int(place.name)] = int(parent)
    return found


def _ranks(run: Command) -> list[int]:
    """Ranks beyond the first, awaited: children of the leader's fork server."""
    while run.wait(0) is None:
        parents = _parents({run.pid})
        if ranks := [pid for pid, parent in parents.items() if parents.get(parent) == run.pid]:
            return ranks
        time.sleep(0.01)
    return []


def _only_whole_artifacts(out: Path) -> None:
    for folder in (out / "artifacts").glob("*"):
        Artifact.open(folder)  # raises if it is incomplete or was altered


def test_ten_kills_change_nothing(finished: Finished, preloaded: Preloaded, tmp_path: Path) -> None:
    rng, out, kills = random.Random(20), tmp_path / "run", 0
    runs = Runs(preloaded, out)
    for stage in KILLED_IN:
        if stage == "anneal-2":
            code, errors = runs.lose_a_rank_in("anneal-1")
            assert code == 75, (code, errors)
            assert errors.startswith("error: ") and "run the same command again" in errors and errors.count("\n") == 1, errors
        if stage == "sft":
            code, errors = runs.terminate_in(stage)
            assert code == 143, (code, errors)
            assert errors.startswith("error: ") and "stopped by SIGTERM" in errors and errors.count("\n") == 1, errors
        kills += runs.kill_in(stage, rng.uniform(0.0, 0.8))
        _only_whole_artifacts(out)
    assert kills == len(KILLED_IN)
    last = helpers.run(out)
    assert last.returncode == 0, last.stderr
    ours, theirs = (
        {row["stage"]: row["digest"] for row in json.loads((o / "lineage.json").read_text())} for o in (finished.out, out)
    )
    assert ours == theirs
    assert (out / "scores.json").read_text() == (finished.out / "scores.json").read_text()
    assert not list((out / "work").iterdir())
    for _ in range(100):
        if not _parents(runs.sessions):
            break
        time.sleep(0.2)
    assert not _parents(runs.sessions)
