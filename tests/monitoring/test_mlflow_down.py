"""A server that is killed, comes back or loses answers; a run that is killed; pods: no point is lost or doubled.

The server is `mlflow_server`: MLflow's store and messages behind a real socket, in a process that is killed with SIGKILL.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from lehr.cli.main import main
from lehr.monitoring.mlflow_spool import FOLDER
from lehr.tasks.run_location import RunLocation
from lehr.tasks.tracked_run import TrackedRun
from tests.monitoring.tracked_server import KEYS, ROOT, SCORE, Server, loaded, server, steps, tracker, until_sent, wanted

pytestmark = pytest.mark.long  # whole runs: with all others make test would not stay within its minutes

__all__ = ["loaded", "server"]  # fixtures


def test_a_server_that_is_killed_and_started_again_has_every_point_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every third answer is lost, so that much is sent twice; killed in the middle, and again before the end."""
    monkeypatch.setattr("lehr.monitoring.mlflow_tracker.RETRY_SECONDS", 0.2)
    server.start(lose=3)
    tracking = tracker(server, tmp_path)
    tracking.stage_started("stage1", total_steps=300, params={"lr": 1e-3})
    steps(tracking, 1, 100, 300, pause=0.005)
    server.kill()
    steps(tracking, 101, 200, 300, pause=0.005)
    while not tracking._down:
        time.sleep(0.05)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1  # what waits is on disk ...
    server.start(lose=3)
    until_sent(tracking)
    assert (tmp_path / FOLDER).is_dir() and not tracking._spool.count()
    server.kill()
    steps(tracking, 201, 300, 300)
    tracking.stage_finished("stage1", uri="", reused=False, seconds=9.0)
    tracking.scored("stage1", [SCORE])
    tracking.close()
    [left] = (tmp_path / FOLDER).iterdir()
    assert f"`lehr mlflow {tmp_path} --send`" in caplog.text and len(left.read_text(encoding="utf-8").splitlines()) > 110

    server.start(lose=4)  # of three, which some records take, one would be lost in every try
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert main(["mlflow", str(tmp_path), "--send"]) == 0  # through all the lost answers
    scores = [(run, f"score/prose/dev/loss{end}", 0) for run in ("stage1", "tiny") for end in ("", "_stderr")]
    assert server.points() == Counter(wanted(300, ("stage1", "stage_seconds", 300), *scores))
    assert server.rows("SELECT name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY name") == [
        ("stage1", "FINISHED"), ("tiny", "FINISHED"),
    ]  # fmt: skip
    assert server.rows("SELECT value FROM tags WHERE key = 'lehr.attempt'") == [("1",)]
    assert not (tmp_path / FOLDER).exists()  # ... and nothing is left

    again = tracker(server, tmp_path)  # its artifact was deleted: the stage is made anew
    again.stage_started("stage1", total_steps=300, params={})
    steps(again, 1, 10, 300)
    until_sent(again)
    again.close(failed=None)
    assert sorted(server.rows("SELECT value FROM tags WHERE key = 'lehr.attempt'")) == [("1",), ("2",)]
    assert max(server.points().values()) == 2 and sum(server.points().values()) == 300 * 3 + 30 + 5 + 10 * 3 + 1


KILLED = """
import sys, time
from pathlib import Path
from tests.monitoring.tracked_server import Server, steps, tracker, until_sent

server = Server(Path(sys.argv[1])); server.port = int(sys.argv[2])
tracking = tracker(server, Path(sys.argv[3]))
tracking.stage_started("stage1", total_steps=100, params={})
steps(tracking, 1, 40, 100)
until_sent(tracking)
print("sent", flush=True); sys.stdin.readline()
steps(tracking, 41, 60, 100)
while tracking._inbox or tracking._spool.count() < 22:
    time.sleep(0.05)
print("written", flush=True); sys.stdin.readline()
"""


def test_a_run_that_is_killed_goes_on_in_its_own_runs_without_a_gap_or_a_repeat(server: Server, tmp_path: Path) -> None:
    """Killed after step 60, when the server, which was killed before, had 40; the next process goes on at 51."""
    server.start()
    command = [sys.executable, "-c", KILLED, str(server.file), str(server.port), str(tmp_path)]
    first = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", bufsize=1
    )
    assert first.stdin is not None and first.stdout is not None and first.stdout.readline() == "sent\n"
    server.kill()
    first.stdin.write("\n")
    assert first.stdout.readline() == "written\n"
    first.kill()
    first.communicate()
    assert server.points() == Counter(wanted(40))
    server.start()
    second = tracker(server, tmp_path)
    second.stage_started("stage1", total_steps=100, params={})
    steps(second, 51, 100, 100)
    second.stage_finished("stage1", uri="", reused=False, seconds=1.0)
    second.close()
    third = tracker(server, tmp_path)
    third.stage_finished("stage1", uri="", reused=True, seconds=1.0)
    third.close()
    assert server.points() == Counter(wanted(100, ("stage1", "stage_seconds", 100)))
    assert server.rows("SELECT value FROM tags WHERE key = 'lehr.attempt'") == [("2",)]
    assert not (tmp_path / FOLDER).exists()


def test_pods_that_start_together_log_into_one_parent_and_their_own_children(server: Server, tmp_path: Path) -> None:
    """Three processes' trackers of one run, with the run's store between them; their machines are told apart."""
    server.start()
    start = threading.Barrier(3)

    def pod(number: int) -> None:
        shared = TrackedRun(RunLocation(tmp_path), server.uri, "here")
        start.wait()
        tracking = tracker(server, tmp_path, shared=shared, order=("a0", "a1", "a2"), sample_seconds=0.3)
        tracking.stage_started(f"a{number}", total_steps=5, params={})
        for step in range(1, 6):
            tracking.progress(f"a{number}", step, 5, {"loss": 1.0})
        time.sleep(1.0)
        tracking.stage_finished(f"a{number}", uri="", reused=False, seconds=1.0)
        tracking.scored(f"a{number}", [SCORE])
        tracking.close(failed=None)

    pods = [threading.Thread(target=pod, args=(number,)) for number in range(3)]
    for thread in pods:
        thread.start()
    for thread in pods:
        thread.join()
    runs = "SELECT name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY name"
    assert server.rows(runs) == [("a0", "FINISHED"), ("a1", "FINISHED"), ("a2", "FINISHED"), ("tiny", "RUNNING")]
    parents = "SELECT value FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'mlflow.parentRunId'"
    [parent] = server.rows("SELECT run_uuid FROM runs WHERE name = 'tiny' AND lifecycle_stage = 'active'")
    assert server.rows(parents) == [parent] * 3
    places = [step for run, key, step in server.points() if run == "tiny" and key == "score/prose/dev/loss"]
    assert sorted(places) == [0, 1, 2]  # in the graph's order, whoever was first
    system = "SELECT DISTINCT r.name FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key LIKE 'system/%'"
    assert {name for (name,) in server.rows(system)} == {"a0", "a1", "a2"}


def test_no_step_waits_for_a_server_that_never_answers_and_memory_stays_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections, and says nothing. A step that waited for it would wait for as long as the test may last;
    single steps may be slow, since whole machines stand still for seconds."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_server = Server(tmp_path / "unused.db")
        silent_server.port = silent.getsockname()[1]
        tracking = tracker(silent_server, tmp_path, max_points=10**6)
        slow = 0
        for step in range(1, 10_001):
            before = time.perf_counter()
            tracking.progress("stage1", step, 10_000, dict.fromkeys(KEYS, 1.0))
            slow += time.perf_counter() - before > 0.1
            if step == 1:
                asked = silent.accept()  # from here on the tracker waits
        assert slow <= 5 and not tracking._down and asked
        while tracking._spool.count() < 10_000:  # the test's time limit ends this
            time.sleep(0.05)
        assert not tracking._inbox and not tracking._spool._held  # nothing in memory
        tracking._delivery = None  # type: ignore[assignment]  # so that nobody waits for its end
        tracking.close(timeout_seconds=0.1)
