"""Rows between the passes: in order, by number, complete or absent."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lehr.data.preparation.rows import Rows, RowsWriter, write_rows
from lehr.runtime.errors import UserError


def test_rows_come_back_in_order_and_by_number(tmp_path: Path) -> None:
    draw = random.Random(3)
    rows = [{"id": str(i), "text": draw.choice("aé\u2028\n") * draw.randrange(3000)} for i in range(2000)]
    write_rows(tmp_path / "a", rows)
    found = Rows(tmp_path / "a")
    assert len(found) == 2000 and list(found) == rows
    some = sorted(draw.sample(range(2000), 70))
    assert list(found.at(some)) == [rows[i] for i in some] and list(found.at([])) == []


def test_no_rows_are_rows_too(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", [])
    assert len(Rows(tmp_path / "a")) == 0 and list(Rows(tmp_path / "a")) == []


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RowsWriter(tmp_path / "a") as writer:
        writer.add({"id": "1"})
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    write_rows(tmp_path / "a", [{"id": str(i)} for i in range(600)])
    whole = (tmp_path / "a").read_bytes()
    for damaged in (whole[:-1], whole[:40], b"", b"x" * 40):
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(UserError, match="damaged rows"):
            Rows(tmp_path / "a")
