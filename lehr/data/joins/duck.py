"""Joins on DuckDB: in this process, under a memory limit, in files of a scratch folder.

Most keys of a corpus occur once. Rows are cut by key into files first, and what has a key of its own is left out before
DuckDB sees it. Grouping is done a share of the keys at a time, so that the working memory of a join does not grow with the
corpus; DuckDB spills what still does not fit. A share is a range of keys, and tables are in order of ranges, so that DuckDB
reads few other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np

from lehr.data.joins import I64, Keyed, Pairs
from lehr.data.joins.partitions import Partitions

_ROWS = 1 << 17  # grouped at a time
_BATCH = 1 << 14  # rows of a result at a time
_ORDER = "{0}_priority DESC, {0}"


class DuckDBJoins:
    """An engine in `folder`, which must be there, be empty, and be removed by the caller. Use it as a context."""

    def __init__(self, folder: Path, memory_mib: int = 64, threads: int = 1) -> None:
        self._folder = folder
        self._db = duckdb.connect(
            str(folder / "joins.duckdb"),
            config={
                "memory_limit": f"{memory_mib}MiB",
                "threads": threads,
                "temp_directory": str(folder),
                "preserve_insertion_order": True,
                "write_buffer_row_group_count": 1,
                # No network: an extension would be fetched from one.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
            },
        )
        # Nothing but the folder's files, from here on and for good.
        self._db.execute("SET enable_progress_bar=false")
        self._db.execute("SET allowed_directories=[" + _quoted(str(folder)) + "]")
        self._db.execute("SET enable_external_access=false")
        self._db.execute("SET lock_configuration=true")

    def __enter__(self) -> DuckDBJoins:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()

    def copies(self, rows: Iterable[Keyed]) -> Iterator[tuple[I64, I64]]:
        table = _Table(self._db, "copy_rows", "low UBIGINT, high UBIGINT, number BIGINT")
        parts = Partitions(self._folder, low="u8", high="u8", number="i8")
        for keyed in rows:
            parts.add(low=keyed.keys[:, 0], high=keyed.keys[:, 1], number=keyed.numbers)
        for part in _repeated(parts):
            table.append(**part)
        found = _Table(self._db, "copies", "number BIGINT, first BIGINT")
        for share in table.shares("low"):
            self._db.execute(
                f"""INSERT INTO copies SELECT number, lowest FROM (SELECT * FROM copy_rows WHERE {share}) JOIN
                (SELECT low, high, min(number) AS lowest FROM copy_rows WHERE {share} GROUP BY low, high HAVING count(*) > 1)
                USING (low, high) WHERE number > lowest AND number >= 0"""
            )
        table.drop()
        for batch in found.sorted("number", "number, first"):
            yield batch["number"], batch["first"]
        found.drop()

    def buckets(self, rows: Iterable[Keyed]) -> _Buckets:
        return _Buckets(self._db, self._folder, rows)


class _Buckets:
    def __init__(self, db: duckdb.DuckDBPyConnection, folder: Path, rows: Iterable[Keyed]) -> None:
        self._db = db
        self._rows = _Table(db, "bucket_rows", _ROW)
        self._judged = _Table(db, "judged", _PAIR)
        parts = Partitions(folder, key="u8", number="i8", priority="f8")
        for batch in rows:
            parts.add(key=batch.keys[:, 0], number=batch.numbers, priority=batch.priorities)
        for part in _repeated(parts):
            self._rows.append(**part)
        self._prune()

    def beyond(self, places: int) -> Iterator[I64]:
        found = _Table(self._db, "beyond", "number BIGINT")
        for share in self._rows.shares("key"):
            self._db.execute(f"INSERT INTO beyond SELECT DISTINCT number FROM ({_placed(share)}) WHERE place > {int(places)}")
        for batch in _different(found.sorted("number", "number"), "number"):
            yield batch["number"]
        found.drop()

    def pairs(self, places: int) -> Iterator[Pairs]:
        found = _Table(self._db, "candidates", _PAIR)
        for share in self._rows.shares("key"):
            self._db.execute(
                f"""INSERT INTO candidates WITH placed AS MATERIALIZED ({_placed(share)})
                SELECT DISTINCT a.number, b.number, a.priority, b.priority, 0 FROM placed a JOIN placed b
                ON a.key = b.key AND a.place < b.place WHERE a.place <= {int(places)} AND b.number >= 0"""
            )
        new = "candidates ANTI JOIN judged USING (first, other)"
        for batch in _different(found.sorted("first, other", _PAIR_COLUMNS, new), "first", "other"):
            yield Pairs(**batch)
        found.drop()

    def judge(self, pairs: Pairs) -> None:
        self._judged.append(**vars(pairs))

    def similar(self) -> Iterator[Pairs]:
        order = f"{_ORDER.format('other')}, {_ORDER.format('first')}"
        found = _Table(self._db, "similar_pairs", _PAIR)
        for batch in found.sorted(order, _PAIR_COLUMNS, "judged WHERE similarity > 0"):
            yield Pairs(**batch)
        found.drop()

    def remove(self, numbers: Iterable[I64]) -> None:
        gone = _Table(self._db, "gone", "number BIGINT")
        for batch in numbers:
            gone.append(number=batch)
        # Written anew instead of deleted from: deleted rows keep their place in the file.
        self._rows.rewrite("SELECT * FROM bucket_rows ANTI JOIN gone USING (number)")
        self._judged.rewrite(
            """SELECT judged.* FROM judged ANTI JOIN gone ON judged.first = gone.number
            ANTI JOIN gone g ON judged.other = g.number"""
        )
        gone.drop()
        self._prune()

    def _prune(self) -> None:
        """Leave out the buckets in which there is nothing to compare."""
        kept = _Table(self._db, "bucket_rows_kept", _ROW)
        for share in self._rows.shares("key"):
            self._db.execute(
                f"""INSERT INTO bucket_rows_kept SELECT * FROM bucket_rows WHERE {share} AND key IN (
                SELECT key FROM bucket_rows WHERE {share} GROUP BY key HAVING count(*) > 1 AND max(number) >= 0)"""
            )
        self._rows.drop()
        self._rows = kept.renamed("bucket_rows")


_ROW = "key UBIGINT, number BIGINT, priority DOUBLE"
_PAIR = "first BIGINT, other BIGINT, first_priority DOUBLE, other_priority DOUBLE, similarity FLOAT"
_PAIR_COLUMNS = "first, other, first_priority, other_priority, similarity"


def _placed(share: str) -> str:
    """SQL: the rows of some buckets, each with its place in its bucket, from 1. A key cannot hold a document twice: its bands
    have different keys."""
    order = "PARTITION BY key ORDER BY priority DESC, number"
    return f"SELECT *, row_number() OVER ({order}) AS place FROM bucket_rows WHERE {share}"


class _Table:
    """A table that is made anew."""

    def __init__(self, db: duckdb.DuckDBPyConnection, name: str, columns: str) -> None:
        self._db, self.name = db, name
        db.execute(f"CREATE OR REPLACE TABLE {name} ({columns})")

    def append(self, **columns: np.ndarray) -> None:
        self._db.register("batch", {name: np.ascontiguousarray(values) for name, values in columns.items()})
        self._db.execute(f"INSERT INTO {self.name} SELECT {', '.join(columns)} FROM batch")
        self._db.unregister("batch")

    def __len__(self) -> int:
        return _one(self._db.execute(f"SELECT count(*) FROM {self.name}").fetchall())

    def shares(self, key: str) -> Sequence[str]:
        """SQL conditions that cut the table into shares of about `_ROWS` rows, by key, in ascending order."""
        shares = max(1, -(-len(self) // _ROWS))
        ends = [(share << 64) // shares for share in range(shares + 1)]
        return [f"{key} BETWEEN {start}::UBIGINT AND {end - 1}::UBIGINT" for start, end in pairwise(ends)]

    def sorted(self, order: str, columns: str, source: str = "") -> Iterator[dict[str, Any]]:
        """Columns of `source` (left out: of this table) in that order, in batches. DuckDB's own batches need pandas or
        Arrow; rows of a sorted table, fetched by their row number, do not."""
        ready = f"{self.name}_sorted"
        self._db.execute(f"CREATE OR REPLACE TABLE {ready} AS SELECT {columns} FROM {source or self.name} ORDER BY {order}")
        rows = _one(self._db.execute(f"SELECT count(*) FROM {ready}").fetchall())
        for start in range(0, rows, _BATCH):
            where = f"rowid >= {start} AND rowid < {start + _BATCH}"
            yield self._db.execute(f"SELECT * FROM {ready} WHERE {where} ORDER BY rowid").fetchnumpy()
        self._db.execute(f"DROP TABLE {ready}")

    def rewrite(self, query: str) -> None:
        self._db.execute(f"CREATE TABLE {self.name}_new AS {query}")
        self.drop()
        self._db.execute(f"ALTER TABLE {self.name}_new RENAME TO {self.name}")

    def renamed(self, name: str) -> _Table:
        self._db.execute(f"ALTER TABLE {self.name} RENAME TO {name}")
        self.name = name
        return self

    def drop(self) -> None:
        self._db.execute(f"DROP TABLE {self.name}")


def _repeated(parts: Partitions) -> Iterator[dict[str, np.ndarray]]:
    """The rows whose first column another row has too, as columns, in batches, ascending by share."""
    waiting, rows = list[np.ndarray](), 0
    for records in parts.parts(4 * _ROWS):
        keys = records[parts.key]
        order = np.argsort(keys)
        same = np.diff(keys[order]) == 0
        found = records[np.sort(order[np.append(same, False) | np.append(False, same)])]
        waiting.append(found)
        rows += len(found)
        if rows >= _ROWS:
            yield _columns(waiting)
            waiting, rows = [], 0
    if rows:
        yield _columns(waiting)


def _different(batches: Iterator[dict[str, np.ndarray]], *by: str) -> Iterator[dict[str, np.ndarray]]:
    """Sorted rows, without those that are as the one before. SQL's DISTINCT wants memory for all of them: of ten million
    documents more than an engine of 64 MiB has, which does not spill it."""
    before: tuple[int, ...] | None = None
    for batch in batches:
        new = np.zeros(len(batch[by[0]]), bool)
        for name in by:
            new[1:] |= np.diff(batch[name]) != 0
        new[0] = before != tuple(int(batch[name][0]) for name in by)
        before = tuple(int(batch[name][-1]) for name in by)
        yield {name: values[new] for name, values in batch.items()}


def _columns(parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    records = np.concatenate(parts)
    return {name: records[name] for name in records.dtype.names or ()}


def _one(rows: list[Any]) -> int:
    return int(rows[0][0])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
