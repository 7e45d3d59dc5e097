"""What waits to be sent to MLflow, on disk: whole lines, one writer, nothing that grows in memory."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring import mlflow_spool
from lehr.monitoring.mlflow_spool import Spool, leftovers
from tests.monitoring.tracked_server import loaded, server

__all__ = ["loaded", "server"]  # fixtures


def test_a_disk_that_is_full_costs_the_oldest_records_of_many_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

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
    assert spool.path.read_bytes().count(b"\n") == 1  # the header alone: the disk is free again
    spool.close()
    assert not (tmp_path / "pending").exists()


def test_a_line_that_a_kill_cut_off_costs_itself_and_a_live_process_keeps_its_file(tmp_path: Path) -> None:

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
