"""The engine that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lehr.config.deduplication import Deduplication, SparkCluster
from lehr.data.joins import Joins
from lehr.data.joins.duck import DuckDBJoins


@contextmanager
def engine(config: Deduplication, folder: Path) -> Iterator[Joins]:
    """The engine in `folder`, which must be there, be empty, and be removed by the caller. Raises UserError where it is not
    installed."""
    if config.engine == "duckdb":
        with DuckDBJoins(folder, config.memory_mib) as embedded:
            yield embedded
        return
    from lehr.data.joins.spark import SparkJoins

    with SparkJoins(folder, config.spark or SparkCluster()) as distributed:
        yield distributed


def check(config: Deduplication) -> None:
    """Raises UserError where the engine is not installed: before hours of filtering, not after them."""
    if config.engine == "spark":
        from lehr.data.joins.spark import check_installed

        check_installed()
