"""A stage's log while somebody else writes it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lehr.monitoring.watch.log_tail import LIVE, MOMENTS, LogTail, Moment
from lehr.monitoring.watch.small_files import opened, small_json


def line(step: int, **more: object) -> str:
    row = {"step": step, "tokens": 64 * step, "loss": 3.0 - step / 100, "grad_norm": 1.0, "learning_rate": 1e-3}
    return json.dumps({**row, "seconds": 0.5, **more}) + "\n"


def steps(moments: list[Moment]) -> list[float]:
    return [moment.row["step"] for moment in moments]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "curves.jsonl"
    path.write_text(line(1) + line(2))
    return path


def test_each_row_once_and_a_torn_one_when_it_is_whole(log: Path) -> None:
    tail = LogTail(log)
    assert tail.read()[0] and steps(LogTail(log).read()[1]) == [1, 2]
    whole = line(3)
    with log.open("a") as file:
        file.write(whole[:20])
        file.flush()
        assert tail.read()[:2] == (False, [])
        file.write(whole[20:])
    anew, moments, end = tail.read()
    assert not anew and steps(moments) == [3] and end == log.stat().st_mtime
    assert tail.read()[1] == []


def test_a_log_that_was_replaced_or_cut_is_read_anew(log: Path) -> None:
    tail = LogTail(log)
    tail.read()
    beside = log.with_name("new")  # as a resume does: a copy up to the last save, under another inode
    for again in ([1], [1, 2, 3]):  # shorter, and longer
        beside.write_text("".join(map(line, again)))
        os.replace(beside, log)
        anew, moments, _ = tail.read()
        assert anew and steps(moments) == again
    log.write_text("")  # the same file, shorter
    assert tail.read()[:2] == (True, [])


def test_what_is_no_row_is_left_out(log: Path) -> None:
    rubbish = [
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b"{\n",
        b"null\n",
        b"[" * 60_000 + b"\n",
        b'{"step": 1e999, "loss": NaN}\n',
        b"x" * 3_000_000 + b"\n",
    ]
    log.write_bytes(b"".join(rubbish) + line(7, loss=None, note="text", big=10**400, skipped=1).encode())
    (moment,) = LogTail(log).read()[1]
    assert steps([moment]) == [7] and not {"loss", "note", "big"} & moment.row.keys()


def test_a_missing_log_a_folder_and_a_pipe_keep_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "folder", "pipe", "nul\0"):
        assert LogTail(tmp_path / name).read() == (False, [], 0.0)
        assert opened(tmp_path / name) is None and small_json(tmp_path / name) is None


def test_a_long_log_is_thinned_to_means_that_keep_sums(tmp_path: Path) -> None:
    log = tmp_path / "curves.jsonl"
    rows = [line(step, **({"skipped": 1} if step == 777 else {})) for step in range(1, 10_001)]
    rows.insert(5_000, json.dumps({"step": 5_000, "tokens": 1, "dev_bits_per_byte": 2.5}) + "\n")
    log.write_text("".join(rows))
    tail = LogTail(log)
    moments = tail.read()[1]
    assert MOMENTS / 2 < len(moments) <= MOMENTS + 2
    own = [moment for moment in moments if moment.steps]
    assert sum(moment.steps for moment in own) == 10_000 and own[-1].row["step"] == 10_000
    assert sum(moment.row["seconds"] for moment in own) == pytest.approx(5_000)
    assert sum(moment.row.get("skipped", 0.0) for moment in own) == 1
    assert own[0].row["loss"] == pytest.approx(3.0 - (own[0].steps + 1) / 200)
    assert [m.row["dev_bits_per_byte"] for m in moments if not m.steps] == [2.5]
    with log.open("a") as file:
        file.write("".join(line(step) for step in range(10_001, 10_101)))
    later = tail.read()[1]
    assert len(later) <= LIVE and sum(moment.steps for moment in later) == 100
