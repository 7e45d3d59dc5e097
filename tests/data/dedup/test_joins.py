"""The embedded engine against one of dictionaries, and its limits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest

from lehr.data.joins import Joins, Keyed, Pairs
from lehr.data.joins import duck as module
from lehr.data.joins.duck import DuckDBJoins
from lehr.data.joins.partitions import Partitions
from tests.data.dedup.given import NumPyJoins


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBJoins]:
    with DuckDBJoins(tmp_path, memory_mib=40) as joins:
        yield joins


def _rows(seed: int, words: int, rows: int = 4000, keys: int = 1500) -> list[Keyed]:
    random = np.random.default_rng(seed)
    numbers = random.permutation(np.arange(-rows // 4, rows - rows // 4))
    found = random.integers(0, keys, (rows, words), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found[:, 1:] = found[:, :1] * np.uint64(3)
    priorities = np.where(numbers < 0, np.inf, random.integers(0, 3, rows)).astype(np.float64)
    return [Keyed(found[i : i + 700], numbers[i : i + 700], priorities[i : i + 700]) for i in range(0, rows, 700)]


def _all(pairs: Iterator[Pairs]) -> list[tuple[float, ...]]:
    return [row for batch in pairs for row in zip(*(c.tolist() for c in vars(batch).values()), strict=True)]


@pytest.mark.parametrize("share", [1 << 20, 300])
def test_results_are_those_of_dictionaries(engine: DuckDBJoins, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", share)  # the second: groups in 14 shares
    monkeypatch.setattr(module, "_BATCH", 100)
    held_to_dictionaries(engine, (1, 2, 1))


def held_to_dictionaries(engine: Joins, rounds: tuple[int, ...]) -> None:
    """Copies, and pairs of buckets out of which things are taken, are those of plain dictionaries."""
    plain = NumPyJoins()
    one, other = (
        [np.concatenate(column).tolist() for column in zip(*joins.copies(_rows(1, 2)), strict=True)]
        for joins in (engine, plain)
    )
    assert one == other and len(one[0]) > 1000
    ours, theirs = engine.buckets(_rows(2, 1)), plain.buckets(_rows(2, 1))
    random = np.random.default_rng(3)
    for places in rounds:
        pairs = list(ours.pairs(places))
        assert _all(iter(pairs)) == _all(theirs.pairs(places))
        for batch in pairs:
            judged = Pairs(**{**vars(batch), "similarity": random.choice([0, 0.5, 0.9], len(batch)).astype(np.float32)})
            ours.judge(judged)
            theirs.judge(judged)
        assert _all(ours.similar()) == _all(theirs.similar()) != []
        assert not list(ours.pairs(places)), "a judged pair is not asked for again"
        gone = np.unique(random.integers(-1000, 3000, 400))
        for buckets in (ours, theirs):
            buckets.remove(iter([gone[:100], gone[100:]]))
        for behind in (0, 1, 2):
            numbers = [
                np.concatenate([*found, np.empty(0, np.int64)]).tolist()
                for found in (ours.beyond(behind), theirs.beyond(behind))
            ]
            assert numbers[0] == numbers[1]


@pytest.mark.parametrize("most", [10, 100, 10_000])
def test_parts_hold_all_rows_of_their_keys(tmp_path: Path, most: int) -> None:
    """Also those of a key with more rows than a part may have, and of keys that no file tells apart (small numbers)."""
    random = np.random.default_rng(0)
    many, few = np.repeat(random.integers(0, 1 << 64, 300, np.uint64), 9), random.integers(0, 9, 50, np.uint64)
    keys = random.permutation(np.concatenate([many, few, np.full(500, 7, np.uint64)]))
    parts = Partitions(tmp_path, key="u8", number="i8")
    for start in range(0, len(keys), 400):
        parts.add(key=keys[start : start + 400], number=np.arange(start, min(start + 400, len(keys))))
    found = list(parts.parts(most))
    seen = [set(part["key"].tolist()) for part in found]
    assert all(max(before) < min(after) for before, after in pairwise(seen)), "ascending, so that no key is in two"
    assert all(len(part) <= most or len(one) <= 10 for part, one in zip(found, seen, strict=True))
    rows = np.concatenate(found)
    assert (keys[rows["number"]] == rows["key"]).all() and len(set(rows["number"].tolist())) == len(rows) == len(keys)
    assert not list(tmp_path.iterdir()), "files are deleted as they are read"


def test_no_rows_give_nothing(engine: DuckDBJoins) -> None:
    assert not list(engine.copies([]))
    buckets = engine.buckets([])
    assert not list(buckets.pairs(1)) and not list(buckets.beyond(0)) and not list(buckets.similar())


def test_the_engine_reaches_nothing_but_its_folder(engine: DuckDBJoins, tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    for query in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY (SELECT 1) TO '{secret}'",
        f"ATTACH '{secret}.db'",
        "INSTALL httpfs",
        "SET enable_external_access=true",
        "SET memory_limit='8GB'",
    ):
        with pytest.raises(duckdb.Error):
            engine._db.execute(query)


@pytest.mark.long
def test_more_rows_than_memory_go_to_the_disk(tmp_path: Path) -> None:
    """48 MB of rows and the groups over them, with 64 MiB."""
    random = np.random.default_rng(0)
    half = random.integers(0, 1 << 63, 1_000_000, dtype=np.uint64)
    keys = np.concatenate([half, half[::-1]])
    rows = [
        Keyed(keys[i : i + 100_000, None], np.arange(i, i + 100_000), np.zeros(100_000)) for i in range(0, len(keys), 100_000)
    ]
    with DuckDBJoins(tmp_path, memory_mib=40) as engine:
        found = list(engine.buckets(rows).pairs(1))
        assert sum(map(len, found)) == 1_000_000
        assert (found[0].first + found[0].other == 1_999_999).all()
