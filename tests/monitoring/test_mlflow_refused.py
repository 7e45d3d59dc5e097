"""Names, values and records that MLflow refuses, runs that somebody deleted, files of others: they cost themselves only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring.mlflow_runs import Runs
from lehr.monitoring.mlflow_spool import FOLDER
from tests.monitoring.tracked_server import SCORE, Server, loaded, server, steps, tracker, until_sent, wanted

__all__ = ["loaded", "server"]  # fixtures


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

    return hashlib.sha256(name.encode()).hexdigest()[:8]
