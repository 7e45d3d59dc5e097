"""A server that is killed, comes back, loses answers or refuses values; a run that is killed: no point is lost or doubled.

The server is `mlflow_server`: MLflow's store and messages behind a real socket, in a process that is killed with SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.cli.main import main
from lehr.monitoring import mlflow_store
from lehr.monitoring.mlflow_runs import Runs
from lehr.monitoring.mlflow_spool import FOLDER
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.tasks.run_location import RunLocation
from lehr.tasks.tracked_run import TrackedRun

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
    assert "`lehr mlflow RUN --send`" in caplog.text and len(left.read_text(encoding="utf-8").splitlines()) > 110

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
from tests.monitoring.test_mlflow_down import Server, steps, tracker, until_sent
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


def test_what_mlflow_does_not_take_is_mapped_and_costs_nothing_else(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.start(refuse="cursed")
    long = "x" * 20_000
    params = {
        "text": long,
        "a/b": 1,
        "😀 model": 2,
        "bell\x07": "a\x00b\x1b[31m",
        "half": "\ud800",
        "address": "http://me:planted-8c1f@host/x",
        **{f"p{n}": n for n in range(250)},
    }
    tracking = tracker(server, tmp_path)
    tracking.stage_started("stage1", total_steps=30, params=params)
    odd = {1: math.nan, 2: math.inf, 3: -math.inf, 4: 10**400, 5: "word", 6: None, 7: True}
    for step in range(1, 31):
        more: dict[str, Any] = {"odd": odd.get(step, 1.0), "a/b@c": 1.0, "😀": 2.0, "cursed": 3.0, "\x1b": 4.0}
        tracking.progress("stage1", step, 30, {"loss": 1.0, **more})
    tracking.progress("stage1", 2**70, 30, {"loss": 1.0})
    tracking.stage_finished("stage1", uri="", reused=False, seconds=1.0)
    tracking.close()
    rows = server.rows("SELECT key, step, value, is_nan FROM metrics WHERE key = 'odd' AND step < 8 ORDER BY step")
    largest = sys.float_info.max
    assert [row[2:] for row in rows] == [(0.0, 1), (largest, 0), (-largest, 0), (largest, 0), (1.0, 0)]
    counts = Counter(key for _, key, _ in server.points())
    assert counts["loss"] == counts["a/b:c"] == 30 and counts["odd"] == 28 and counts["cursed"] == 0 and len(counts) == 6
    assert ("stage1", "stage_seconds", 30) in server.points()
    assert [path.read_text(encoding="utf-8") for path in tmp_path.rglob("params/text.txt")] == [long]
    found = dict(server.rows("SELECT p.key, p.value FROM params p JOIN runs r USING (run_uuid) WHERE r.name = 'stage1'"))
    assert found["a/b"] == "1" and found["bell_-" + key_end("bell\x07")] == "a␀b␛[31m" and len(found) == len(params) + 1
    assert found["half"] == "\ufffd" and found["address"] == "http://***@host/x"
    assert len(found["text"]) == 6000 and "20,000 characters, sha256" in found["text"]
    assert ("😀 model",) in server.rows("SELECT value FROM tags WHERE key LIKE 'lehr.name.%'")
    said = " ".join(record.getMessage() for record in caplog.records)
    for word in ("'text='", "'cursed'", "is no number", "64 bits", "'😀' is"):
        assert said.count(word) == 1, (word, said)
    assert "\x1b" not in said and not (tmp_path / FOLDER).exists()


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


def test_a_record_that_fails_by_itself_does_not_hold_up_the_others(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours; and a run that somebody deletes in MLflow's pages while it is at work."""
    server.start()

    def broken(self: Runs, record: Any) -> None:
        raise RuntimeError("our own mistake")

    monkeypatch.setattr(Runs, "_scores", broken)
    monkeypatch.setattr("lehr.monitoring.mlflow_tracker.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("lehr.monitoring.mlflow_delivery.TRIES", 2)
    tracking = tracker(server, tmp_path)
    tracking.stage_started("stage1", total_steps=50, params={})
    tracking.scored("stage1", [SCORE])
    steps(tracking, 1, 20, 50)
    until_sent(tracking)
    with contextlib.closing(sqlite3.connect(server.file, timeout=20)) as db, db:
        db.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'stage1'")
    steps(tracking, 21, 50, 50)
    tracking.stage_finished("stage1", uri="", reused=False, seconds=1.0)
    tracking.stage_started("soup", total_steps=0, params={})
    tracking.stage_finished("soup", uri="", reused=False, seconds=1.0)
    tracking.close()
    assert server.points() == Counter(wanted(20, ("soup", "stage_seconds", 0)))
    assert "our own mistake" in caplog.text and "was deleted" in caplog.text and not (tmp_path / FOLDER).exists()


def test_a_waiting_file_of_somebody_else_can_neither_copy_files_nor_stop_the_tracking(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lehr.monitoring.mlflow_tracker.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("lehr.monitoring.mlflow_delivery.TRIES", 2)
    server.start()
    run, secret = tmp_path / "run", tmp_path / "secret.txt"
    secret.write_text("planted", encoding="utf-8")
    (run / FOLDER).mkdir(parents=True)
    (run / "link").symlink_to(secret)
    good = {"tracking_uri": server.uri, "experiment": "lehr", "run_name": "tiny", "artifact_location": None}
    good |= {"params": {}, "tags": {}, "run_key": "theirs"}
    paths = [[str(secret)], [str(run / "link")], [str(run / ".." / "secret.txt")]]
    records = [{"do": "artifacts", "stage": "", "at": 1, "paths": some} for some in paths]
    records += [{"do": "log_params", "stage": "x", "at": 1}, {"do": "_init__"}, {}]
    lines = [json.dumps(line) for line in (good, *records)]
    (run / FOLDER / "1-a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bad = {**good, "params": [1], "more": 1}
    (run / FOLDER / "2-b.jsonl").write_text(json.dumps(bad) + "\n{}\n", encoding="utf-8")
    tracking = tracker(server, run)
    tracking.stage_started("stage1", total_steps=20, params={})
    steps(tracking, 1, 20, 20)
    until_sent(tracking)
    tracking.close()
    assert server.points() == Counter(wanted(20))
    assert not list(Path(f"{server.file}.artifacts").rglob("*.txt"))
    assert caplog.text.count("outside of the run") == 1 and "2-b.jsonl cannot be sent, and stays" in caplog.text
    assert [path.name for path in (run / FOLDER).iterdir()] == ["2-b.jsonl"]


def key_end(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()[:8]


def test_no_step_waits_for_a_server_that_never_answers_and_memory_stays_flat(tmp_path: Path) -> None:
    """It takes connections, and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_server = Server(tmp_path / "unused.db")
        silent_server.port = silent.getsockname()[1]
        tracking = tracker(silent_server, tmp_path, max_points=10**6)
        began, slowest = time.perf_counter(), 0.0
        for step in range(1, 10_001):
            before = time.perf_counter()
            tracking.progress("stage1", step, 10_000, dict.fromkeys(KEYS, 1.0))
            slowest = max(slowest, time.perf_counter() - before)
            if step % 1000 == 0:
                time.sleep(0.3)
        took = time.perf_counter() - began
        assert took < 20 and slowest < 1.0
        while tracking._inbox or tracking._spool._held:  # in memory; the test's time limit ends this
            time.sleep(0.05)
        assert tracking._spool.count() >= 10_000
        tracking._delivery = None  # type: ignore[assignment]  # so that nobody waits for its end
        tracking.close(timeout_seconds=0.1)


def test_a_disk_that_is_full_costs_the_oldest_records_of_many_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lehr.monitoring import mlflow_spool

    monkeypatch.setattr(mlflow_spool, "MOST_HELD", 50)
    spool = mlflow_spool.Spool.new(tmp_path / "pending", {"run_key": "x"})
    real, full = os.write, threading.Event()

    def write(descriptor: int, text: bytes) -> int:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return real(descriptor, text)

    monkeypatch.setattr(mlflow_spool.os, "write", write)
    spool.append([{"n": 0}])
    full.set()
    for n in range(1, 70):
        spool.append([{"n": n}])
    assert spool.lost == 19
    full.clear()
    spool.append([{"n": 70}])
    found: list[int] = []
    while records := spool.peek(100):
        found += [record["n"] for record, _ in records if record]
        spool.sent(sum(size for _, size in records))
    assert found == [0, *range(20, 71)] and not spool.waiting
    spool.close()
    assert not (tmp_path / "pending").exists()


def test_a_line_that_a_kill_cut_off_costs_itself_and_a_live_process_keeps_its_file(tmp_path: Path) -> None:
    from lehr.monitoring.mlflow_spool import Spool, leftovers

    alive = Spool.new(tmp_path, {"run_key": "x"})
    alive.append([{"n": 1}])
    assert list(leftovers(tmp_path)) == []
    dead = tmp_path / "00000000000000000001-dead.jsonl"
    dead.write_text('{"run_key": "y"}\n{"n": 1}\n{"n": ', encoding="utf-8")
    [found] = leftovers(tmp_path)
    assert found.header == {"run_key": "y"} and [record for record, _ in found.peek()] == [{"n": 1}, None]
    found.sent(sum(size for _, size in found.peek()))
    found.close()
    assert not dead.exists() and json.loads(alive.path.read_text(encoding="utf-8").splitlines()[1]) == {"n": 1}
    alive.close()
