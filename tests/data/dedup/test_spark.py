"""Spark gives what DuckDB gives, and a kill in a join changes nothing. PySpark is installed by `make spark`, and needs Java;
without them the tests that start it are skipped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lehr.config.base import Config
from lehr.config.deduplication import Deduplication, NearDuplicates, SparkCluster
from lehr.data.joins import Keyed, choice, spark
from lehr.data.preparation.shares import folder_of
from lehr.runtime.errors import UserError
from lehr.stages.documents import DocumentsConfig
from tests.data.dedup.test_joins import held_to_dictionaries
from tests.data.preparation.test_corpus import config, digests, texts

ROOT = Path(__file__).resolve().parents[3]
PLACE = os.environ.get("LEHR_SPARK", str(Path("~/.cache/lehr/spark").expanduser()))
if not importlib.util.find_spec("pyspark") and Path(PLACE, "pyspark").is_dir():
    sys.path.append(PLACE)
HAS_IT = importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None
needs_it = pytest.mark.skipif(not HAS_IT, reason="PySpark is not installed (make spark), or there is no Java")


def test_without_the_package_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Spark needs the package pyspark.*Install it"):
        choice.check(Deduplication(engine="spark"))
    choice.check(Deduplication())


def test_the_engine_and_the_pods_are_no_part_of_a_fingerprint(tmp_path: Path) -> None:
    texts(tmp_path / "in", 1, 3)
    one = config(tmp_path / "in", 1)
    copies = Deduplication(engine="spark", spark=SparkCluster(master="spark://m:7077"), memory_mib=512)
    other = one.model_copy(update={"deduplication": copies, "pods": 9, "processes": 4})
    described = [DocumentsConfig(data=data, seed=1, decontaminate=[], evaluation_seed=1).described() for data in (one, other)]
    assert described[0] == described[1]
    assert folder_of(one, tmp_path) == folder_of(other, tmp_path)


def test_settings_of_an_engine_that_is_not_chosen_are_refused() -> None:
    kinds: list[tuple[type[Config], dict[str, object], str]] = [
        (Deduplication, {"spark": {"master": "local[4]"}}, "set engine: spark"),
        (SparkCluster, {"master": "http://m"}, "master"),
        (SparkCluster, {"settings": {"executor.memory": "8g"}}, "settings"),
    ]
    for kind, values, words in kinds:
        with pytest.raises(ValueError, match=words):
            kind.model_validate(values)


@needs_it
@pytest.mark.long
def test_results_are_those_of_dictionaries(tmp_path: Path) -> None:
    with spark.SparkJoins(tmp_path, SparkCluster()) as engine:
        held_to_dictionaries(engine, (1, 2))
        assert not list(engine.copies(list[Keyed]()))
    assert not list(tmp_path.iterdir())


RUN = """
import sys
from pathlib import Path
sys.path.append(sys.argv[4])
from tests.data.dedup.test_spark import prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""


def prepare(folder: Path, place: Path, engine: str) -> None:
    """A corpus with copies and near-twins."""
    from lehr.data.preparation.corpus import prepare_corpus
    from tests.data.preparation.test_corpus import QUIZ, generated

    copies = Deduplication(fuzzy=NearDuplicates(), engine=engine, save=True)
    (place / "out").mkdir(parents=True, exist_ok=True)
    data = config(folder, 1).model_copy(update={"deduplication": copies})
    prepare_corpus(data, QUIZ, generated, place / "out", place / "scratch")
    assert not list((place / "scratch").iterdir())


def _command(folder: Path, place: Path, engine: str) -> list[str]:
    return [sys.executable, "-c", RUN, str(folder), str(place), engine, PLACE]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Documents, and the digests of what an undisturbed run with DuckDB makes of them."""
    folder = tmp_path_factory.mktemp("given")
    texts(folder / "in", 3, 150)
    subprocess.run(_command(folder / "in", folder / "whole", "duckdb"), cwd=ROOT, check=True)
    found = digests(folder / "whole/out")
    assert "signatures/documents.sig" in found
    return folder / "in", found


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=needs_it)])
def test_bytes_are_the_same_for_each_engine_after_a_kill_in_the_join(
    given: tuple[Path, dict[str, str]], tmp_path: Path, engine: str
) -> None:
    folder, expected = given
    child = subprocess.Popen(_command(folder, tmp_path, engine), cwd=ROOT, start_new_session=True)
    while child.poll() is None and not _joining(tmp_path, engine):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was killed in the middle of the join"
    subprocess.run(_command(folder, tmp_path, engine), cwd=ROOT, check=True)
    assert digests(tmp_path / "out") == expected
    assert not _of_session(child.pid), "Spark's Java process outlived its driver"


def _joining(place: Path, engine: str) -> bool:
    """DuckDB has its file; Spark has written a result."""
    names = {"duckdb": "scratch/*/joins/joins.duckdb", "spark": "scratch/*/joins/joins-*/*/_SUCCESS"}
    return any(place.glob(names[engine]))


def _of_session(session: int) -> list[str]:
    found = subprocess.run(
        ["ps", "-o", "args=", "-s", str(session)], capture_output=True, text=True, encoding="utf-8", check=False
    )
    return found.stdout.splitlines()
