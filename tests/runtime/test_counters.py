"""Counts of one process, and their sum over the processes of a machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from lehr.runtime import counters
from lehr.runtime.errors import Bug

PLAIN = counters.declare("test_plain")
LABELLED = counters.declare("test_labelled", ("kind", "end"), (0.1, 1.0))


def test_counts_add_up_by_label_and_bucket() -> None:
    PLAIN.clear()
    LABELLED.clear()
    PLAIN.add(2.5)
    PLAIN.add(-1.0)  # a count never goes down
    for amount in (0.1, 0.5, 2.0):
        LABELLED.add(amount, kind="put", end="ok")
    LABELLED.add(1.0, end="failed", kind="put")
    assert PLAIN.read()[()].total == 2.5
    found = LABELLED.read()
    assert found["put", "ok"].buckets == [1, 1, 1] and found["put", "ok"].total == pytest.approx(2.6)
    assert found["put", "failed"].buckets == [0, 1, 0]
    LABELLED.add(0.5, 4, kind="put", end="failed")  # four times
    failed = LABELLED.read()["put", "failed"]
    assert (failed.count, failed.total, failed.buckets) == (5, 3.0, [0, 5, 0])
    LABELLED.add(0.0, kind="head", end="ok")
    assert LABELLED.read()["head", "ok"].total == 0  # is there, and nothing has happened
    with LABELLED.timing(kind="get", end="ok"):
        pass
    assert 0 <= LABELLED.read()["get", "ok"].total < 1
    with pytest.raises(Bug, match="test_labelled has the labels"):
        LABELLED.add(1.0, kind="put")
    with pytest.raises(Bug, match="test_plain is declared twice"):
        counters.declare("test_plain", ("kind",))
    assert counters.declare("test_plain") is PLAIN


def _in_another(amount: float) -> None:
    PLAIN.add(amount)
    counters._ended.set()


def test_processes_of_one_machine_are_summed_those_that_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(counters.FOLDER, str(tmp_path))
    monkeypatch.setattr(counters, "_sharing", None)
    PLAIN.clear()
    PLAIN.add(1.0)
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=_in_another, args=(10.0,))
        process.start()
        process.join()
        assert process.exitcode == 0
    counters.write(tmp_path / f"counts-{os.getpid()}.json")  # its own file is not read
    (tmp_path / "counts-1.json").write_text("[")  # a disk was full
    (tmp_path / "counts-2.json").write_text(json.dumps({"test_plain": [[[], {"count": 1}]]}))
    assert counters.read_all()["test_plain"][()].total == 21.0
    assert counters.read_all(str(tmp_path / "nowhere"))["test_plain"][()].total == 1.0


def test_a_process_that_outlives_the_folder_shares_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_sharing", None)
    monkeypatch.setattr(counters, "WRITE_SECONDS", 0.01)
    monkeypatch.setattr(counters, "_ended", ended := threading.Event())
    name = f"counts-{os.getpid()}.json"
    for run in ("first", "second"):
        (folder := tmp_path / run).mkdir()
        monkeypatch.setenv(counters.FOLDER, str(folder))
        PLAIN.add(1.0)
        while not (folder / name).exists():  # the test's time limit ends this
            time.sleep(0.01)
        shutil.rmtree(folder, ignore_errors=True)
        while counters._sharing is not None:
            shutil.rmtree(folder, ignore_errors=True)  # a write may have been in progress
            time.sleep(0.01)
    ended.set()
