"""Pods that share the files of a corpus make the bytes of one process, however many they are, and in whatever order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.data.preparation.compared import Watch
from lehr.data.preparation.corpus import prepare_corpus, prepare_until
from lehr.data.preparation.pace import FILTER, OVERLAP, STEPS, WRITE
from lehr.data.preparation.shares import folder_of, run_share
from lehr.runtime.errors import Bug
from tests.data.preparation.test_corpus import QUIZ, config, digests, generated, texts

COPIES = Deduplication(fuzzy=NearDuplicates(), save=True)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("given")
    texts(folder / "in", 5, 40)
    return folder / "in", prepared(folder / "in", folder)


def prepared(folder: Path, place: Path) -> dict[str, str]:
    (place / "out").mkdir()
    data = config(folder, 1).model_copy(update={"deduplication": COPIES})
    prepare_corpus(data, QUIZ, generated, place / "out", place / "scratch")
    assert not list((place / "scratch").iterdir())
    return digests(place / "out")


@pytest.mark.parametrize("pods", [1, 2, 4, 16])
def test_bytes_are_those_of_one_process(given: tuple[Path, dict[str, str]], tmp_path: Path, pods: int) -> None:
    folder, expected = given
    data = config(folder, 1).model_copy(update={"deduplication": COPIES, "pods": pods})
    for step in STEPS:
        prepare_until(step, data, QUIZ, generated, tmp_path / "scratch")
        done = [run_share(step, number, pods, data, tmp_path / "scratch", Watch()) for number in reversed(range(pods))]
        assert sum(done) == (5 if step == FILTER else 6), "every file once; the generator's are one in the later passes"
    worked = [path for path in folder_of(data, tmp_path / "scratch").iterdir() if path.suffix != ".partial"]
    before = {path.name: path.stat().st_mtime_ns for path in worked if path.suffix in (".kept", ".npz", ".train", ".sig")}
    (tmp_path / "out").mkdir()
    prepare_until(WRITE, data, QUIZ, generated, tmp_path / "scratch")
    assert before == {name: (folder_of(data, tmp_path / "scratch") / name).stat().st_mtime_ns for name in before}, "not again"
    prepare_corpus(data, QUIZ, generated, tmp_path / "out", tmp_path / "scratch")
    assert digests(tmp_path / "out") == expected


def test_a_pass_that_was_begun_too_early_is_a_bug(given: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(Bug, match="the pass overlap over the parts was begun before what it needs was there"):
        run_share(OVERLAP, 0, 2, config(given[0], 1), tmp_path, Watch())
