"""Joins on Apache Spark: on a cluster of executors, or on this machine (`local[2]`), under the memory that they are given.

Rows go to the executors, and results come back, as Parquet files in a folder that all of them see under one path. Spark moves
rows by key, sorts beyond memory on disk, and repeats what a lost executor held; each result is sorted by columns that no two
of its rows share, so it does not depend on who computed which part of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lehr.config.deduplication import SparkCluster
from lehr.data.joins import I64, Keyed, Pairs
from lehr.runtime.errors import InfraError, UserError

_BATCH = 1 << 14  # rows of a result at a time
_FILE_ROWS = 1 << 22  # of what is sent: a file is what one task reads at least
_LOCAL = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.sql.shuffle.partitions": "16"}
_ALWAYS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
_ROW = "key BIGINT, number BIGINT, priority DOUBLE"
_PAIR = "first BIGINT, other BIGINT, first_priority DOUBLE, other_priority DOUBLE, similarity FLOAT"


def check_installed() -> None:
    """Raises UserError where Spark's Python package, or Java, is missing."""
    missing = [name for name in ("pyspark", "pyarrow") if not find_spec(name)]
    if missing:
        remedy = "install it (pip install pyspark==4.3.0 'lehr[parquet]'), or leave `engine` out"
        raise UserError(f"Spark needs the package {missing[0]}", where="data.deduplication.engine", remedy=remedy)
    if not shutil.which("java"):
        raise UserError("Spark needs Java 17 or newer", where="data.deduplication.engine", remedy="put `java` on the path")


class SparkJoins:
    """An engine that exchanges files in `folder`, which must be there and be removed by the caller. Use it as a context. Raises
    UserError where Spark is not installed, InfraError where its cluster fails."""

    def __init__(self, folder: Path, cluster: SparkCluster) -> None:
        check_installed()
        # Of its own: an executor that has not heard yet that an earlier driver was killed may still write to that one's folder.
        place = Path(cluster.shared) if cluster.shared else folder
        self._folder = Path(tempfile.mkdtemp(prefix="joins-", dir=place))
        self._numbers = count()
        settings = {**_ALWAYS, "spark.local.dir": str(self._folder)}
        self._session = _session(cluster, settings)

    def __enter__(self) -> SparkJoins:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _stop(self._session)
        shutil.rmtree(self._folder, ignore_errors=True)

    def copies(self, rows: Iterable[Keyed]) -> Iterator[tuple[I64, I64]]:
        sent = self.sent("copy_rows", "low BIGINT, high BIGINT, number BIGINT")
        for keyed in rows:
            low, high = (np.ascontiguousarray(keyed.keys[:, i]).view(np.int64) for i in (0, 1))
            sent.add(low=low, high=high, number=keyed.numbers)
        sent.close()
        query = """SELECT number, lowest FROM copy_rows JOIN
            (SELECT low, high, min(number) AS lowest FROM copy_rows GROUP BY low, high HAVING count(*) > 1)
            USING (low, high) WHERE number > lowest AND number >= 0 ORDER BY number"""
        for batch in self.asked(query):
            yield batch["number"], batch["lowest"]
        sent.drop()

    def buckets(self, rows: Iterable[Keyed]) -> _Buckets:
        return _Buckets(self, rows)

    def sent(self, view: str, columns: str) -> _Sent:
        return _Sent(self, view, columns)

    def place(self) -> Path:
        return self._folder / f"{next(self._numbers):06d}"

    def view(self, name: str, folder: Path, columns: str) -> None:
        """SQL's `name` is what the files in `folder` hold, from now on."""
        _done(lambda: self._session.read.schema(columns).parquet(str(folder)).createOrReplaceTempView(name))

    def written(self, query: str) -> Path:
        """A folder with the query's result, in its order over the names of the files."""
        folder = self.place()
        _done(lambda: self._session.sql(query).write.parquet(str(folder)))
        return folder

    def asked(self, query: str) -> Iterator[dict[str, Any]]:
        """The result in batches of columns, in order."""
        from pyarrow.parquet import ParquetFile  # type: ignore[import-not-found, import-untyped, unused-ignore]

        folder = self.written(query)
        for path in sorted(folder.glob("part-*.parquet")):
            with ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH):
                    if batch.num_rows:
                        yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
        shutil.rmtree(folder, ignore_errors=True)


class _Buckets:
    def __init__(self, joins: SparkJoins, rows: Iterable[Keyed]) -> None:
        self._joins = joins
        sent = joins.sent("bucket_rows", _ROW)
        for batch in rows:
            key = np.ascontiguousarray(batch.keys[:, 0]).view(np.int64)
            sent.add(key=key, number=batch.numbers, priority=batch.priorities)
        sent.close()
        self._folder = sent.folder
        self._judged = joins.sent("judged", _PAIR)
        self._judged.close()
        self._replace("bucket_rows")

    def beyond(self, places: int) -> Iterator[I64]:
        query = f"SELECT DISTINCT number FROM ({_PLACED}) WHERE place > {int(places)} ORDER BY number"
        for batch in self._joins.asked(query):
            yield batch["number"]

    def pairs(self, places: int) -> Iterator[Pairs]:
        query = f"""WITH placed AS ({_PLACED}), candidates AS (
            SELECT DISTINCT a.number AS first, b.number AS other, a.priority AS first_priority, b.priority AS other_priority
            FROM placed a JOIN placed b ON a.key = b.key AND a.place < b.place WHERE a.place <= {int(places)} AND b.number >= 0)
            SELECT candidates.*, CAST(0 AS FLOAT) AS similarity FROM candidates LEFT ANTI JOIN judged
            ON candidates.first = judged.first AND candidates.other = judged.other
            ORDER BY candidates.first, candidates.other"""
        self._judged.close()
        for batch in self._joins.asked(query):
            yield Pairs(**batch)

    def judge(self, pairs: Pairs) -> None:
        self._judged.add(**vars(pairs))

    def similar(self) -> Iterator[Pairs]:
        self._judged.close()
        order = "other_priority DESC, other, first_priority DESC, first"
        for batch in self._joins.asked(f"SELECT * FROM judged WHERE similarity > 0 ORDER BY {order}"):
            yield Pairs(**batch)

    def remove(self, numbers: Iterable[I64]) -> None:
        gone = self._joins.sent("gone", "number BIGINT")
        for batch in numbers:
            gone.add(number=batch)
        gone.close()
        self._judged.close()
        self._replace("(SELECT * FROM bucket_rows LEFT ANTI JOIN gone ON bucket_rows.number = gone.number)")
        self._judged.replace(
            """SELECT judged.* FROM judged LEFT ANTI JOIN gone ON judged.first = gone.number
            LEFT ANTI JOIN gone other ON judged.other = other.number"""
        )
        gone.drop()

    def _replace(self, rows: str) -> None:
        """The rows are those of `rows` from now on, without the buckets in which there is nothing to compare."""
        folder = self._joins.written(
            f"""WITH left AS (SELECT * FROM {rows}) SELECT left.* FROM left LEFT SEMI JOIN
            (SELECT key FROM left GROUP BY key HAVING count(*) > 1 AND max(number) >= 0) kept ON left.key = kept.key"""
        )
        self._joins.view("bucket_rows", folder, _ROW)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = folder


# The rows, each with its place in its bucket, from 1.
_PLACED = "SELECT *, row_number() OVER (PARTITION BY key ORDER BY priority DESC, number) AS place FROM bucket_rows"


class _Sent:
    """Rows on their way to the executors, who see them once `close` was called; more may follow after that."""

    def __init__(self, joins: SparkJoins, view: str, columns: str) -> None:
        self._joins, self._view, self._columns = joins, view, columns
        self.folder = joins.place()
        self.folder.mkdir()
        self._files, self._rows = count(), 0
        self._writer: Any = None

    def add(self, **columns: np.ndarray) -> None:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from pyarrow.parquet import ParquetWriter

        table = pyarrow.table(columns)
        if self._writer is None:
            self._path = self.folder / f"sent-{next(self._files):06d}.parquet"
            self._writer = ParquetWriter(self._path.with_name(f"_{self._path.name}"), table.schema)  # "_": not read by Spark
        self._writer.write_table(table)
        self._rows += len(table)
        if self._rows >= _FILE_ROWS:
            self._end_file()

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._path.with_name(f"_{self._path.name}").replace(self._path)
            self._rows, self._writer = 0, None

    def close(self) -> None:
        self._end_file()
        self._joins.view(self._view, self.folder, self._columns)

    def replace(self, query: str) -> None:
        """The rows are those of `query`, which may ask for the present ones."""
        folder = self._joins.written(query)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = folder
        self.close()

    def drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _session(cluster: SparkCluster, settings: dict[str, str]) -> Any:
    # Imported by name, here and below: it is pinned in the Makefile, outside of the lock (docs/decisions.md).
    builder = import_module("pyspark.sql").SparkSession.builder.master(cluster.master).appName("lehr")
    local = _LOCAL if cluster.master.startswith("local") else {}
    for name, value in {**settings, **local, **cluster.settings}.items():
        builder = builder.config(name, value)
    return _done(builder.getOrCreate)


def _stop(session: Any) -> None:
    """End the driver's Java process too: it would hold its memory for as long as this process lives."""
    context = import_module("pyspark").SparkContext
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    context._gateway = context._jvm = None


def _done(work: Any) -> Any:
    """Errors of Spark's are of the machines: the queries are ours, and the rows are numbers. Raises InfraError."""
    errors = (import_module("pyspark.errors").PySparkException, import_module("py4j.protocol").Py4JError)
    try:
        return work()
    except errors as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InfraError(f"Spark failed: {said[0][:300]}") from error
