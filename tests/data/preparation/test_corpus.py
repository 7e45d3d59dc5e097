"""A corpus is the same bytes whatever the number of processes and whoever is killed; its memory does not grow with it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.config.data import Data
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource, SyntheticSource
from lehr.data.document import Document
from lehr.data.preparation import workers
from lehr.data.preparation.corpus import Watch, prepare_corpus
from lehr.data.synthetic import documents
from lehr.runtime.errors import InfraError, UserError

ROOT = Path(__file__).resolve().parents[3]
QUIZ = {"quiz": ["the walls were painted green by seven sailors before the ship went down in april"]}


def generated(name: str, source: SyntheticSource) -> Iterator[Document]:
    for d in documents(source.generator, source, 7):
        yield Document(d.id, name, d.text, d.parent)


def texts(folder: Path, files: int, rows: int) -> None:
    """Files of documents, every seventh a copy of an earlier one, one that holds the quiz."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, words = random.Random(1), [line.split()[0] for line in (ROOT / "README.md").read_text().splitlines() if line.split()]
    written: list[str] = []
    for number in range(files):
        with gzip.open(folder / f"{number:03d}.jsonl.gz", "wt", encoding="utf-8") as file:
            for row in range(rows):
                again = row % 7 == 6 and written
                text = draw.choice(written) if again else " ".join(draw.choices(words, k=draw.randrange(5, 120)))
                if number == files - 1 and row in (3, 4, 5):
                    text += " " + QUIZ["quiz"][0]
                written = [*written[-200:], text]
                file.write(json.dumps({"id": f"{number}/{row}", "text": text}) + "\n")


def config(folder: Path, processes: int, held_back: int = 10_000) -> Data:
    web = FilesSource(kind="files", path=str(folder), license="CC0-1.0")
    sums = SyntheticSource(kind="synthetic", generator="arithmetic", documents=50)
    mixes = {"all": Mix(weights={"web": 1.0})}
    return Data(
        sources={"web": web, "sums": sums}, mixes=mixes, dev_share=0.1, held_out_share=0.1, most_held_back=held_back,
        processes=processes,
    )  # fmt: skip


def made(folder: Path, place: Path, processes: int, held_back: int = 10_000) -> dict[str, str]:
    """SHA-256 of each file of a corpus."""
    (place / "out").mkdir(parents=True, exist_ok=True)
    prepare_corpus(config(folder, processes, held_back), QUIZ, generated, place / "out", place / "scratch", Watch())
    assert list((place / "scratch").iterdir()) == []
    return digests(place / "out")


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_every_document_is_kept_once_or_dropped_for_a_reason(tmp_path: Path) -> None:
    texts(tmp_path / "in", 3, 100)
    made(tmp_path / "in", tmp_path, 1)
    out = tmp_path / "out"
    kept = {name: rows(out / f"{name}.jsonl.gz") for name in ("documents/web", "dev", "held_out")}
    dropped = rows(out / "dropped.jsonl.gz")
    ids = [row["id"] for found in (*kept.values(), dropped) for row in found]
    assert sorted(ids) == sorted(f"{number}/{row}" for number in range(3) for row in range(100))
    every = [" ".join(row["text"].lower().split()) for found in kept.values() for row in found]
    assert len(every) == len(set(every))
    reasons = {row["id"]: row["reason"] for row in dropped}
    assert (
        "contaminates quiz" in [reasons.get(f"2/{row}") for row in (3, 4, 5)]
        and list(reasons.values()).count("exact duplicate") > 30
    )
    funnel = json.loads((out / "funnel.json").read_text())["web"]
    assert funnel["read"] == 300 == funnel["kept"] + sum(funnel["dropped"].values())
    assert funnel["characters_kept"] == sum(len(row["text"]) for found in kept.values() for row in found)
    assert len(rows(out / "documents/sums.jsonl.gz")) == 50


def test_bytes_are_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    texts(tmp_path / "in", 5, 60)
    one = made(tmp_path / "in", tmp_path / "1", 1)
    assert made(tmp_path / "in", tmp_path / "3", 3) == one


RUN = """
import sys
from pathlib import Path
from tests.data.preparation.test_corpus import made
if __name__ == "__main__":
    made(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
"""


def killed(command: list[str], draw: random.Random, whole_seconds: float) -> int:
    """How often a run, given again after each kill, was killed before it ended. The first to go is its process or a worker."""
    kills = 0
    while True:
        child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + draw.uniform(0.1, whole_seconds)
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if child.poll() is not None:
            assert child.returncode == 0
            return kills
        os.killpg(child.pid, signal.SIGKILL) if draw.random() < 0.5 else child.kill()
        child.wait()
        kills += 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_kills_change_nothing(tmp_path: Path) -> None:
    texts(tmp_path / "in", 12, 400)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    began = time.monotonic()
    command = [sys.executable, "-c", RUN, str(tmp_path / "in")]
    subprocess.run([*command, str(tmp_path / "whole"), "2"], cwd=ROOT, check=True)
    seconds = time.monotonic() - began
    expected, kills, draw = digests(tmp_path / "whole/out"), 0, random.Random(11)
    while kills < int(os.environ.get("LEHR_KILLS", "4")):  # a hundred take ten minutes
        place = tmp_path / f"after-{kills}"
        kills += killed([*command, str(place), "2"], draw, seconds)
        assert digests(place / "out") == expected


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_one_that_always_dies_is_said(tmp_path: Path) -> None:
    texts(tmp_path / "in", 3, 30)
    tasks = [Dies(tmp_path / f"{number}", once=True) for number in range(3)]
    finished: list[Dies] = []
    workers.run_all(tasks, 2, finished.append)
    assert sorted(task.path.name for task in finished) == ["0", "1", "2"]
    with pytest.raises(InfraError, match=r"a process that prepared data was killed.*lower data\.processes"):
        workers.run_all([Dies(tmp_path / f"again-{number}", once=False) for number in range(2)], 2, finished.append)


class Dies:
    """A task that kills its process, the first time or always."""

    def __init__(self, path: Path, *, once: bool) -> None:
        self.path, self.once = path, once

    def fetched(self) -> Dies:
        return self

    def done(self) -> bool:
        return self.path.with_suffix(".done").exists()

    def __call__(self) -> None:
        if not (self.once and self.path.exists()):
            self.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.path.with_suffix(".done").touch()


def test_a_mistake_in_a_worker_is_the_users(tmp_path: Path) -> None:
    texts(tmp_path / "in", 3, 30)
    (tmp_path / "in" / "001.jsonl.gz").write_bytes(gzip.compress(b'{"text": 1}\n'))
    with pytest.raises(UserError, match=r"001\.jsonl\.gz:1: no `text`"):
        made(tmp_path / "in", tmp_path, 2)


@pytest.mark.long
def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    """But for those that are held back, whose n-grams are in memory: they are bounded by `most_held_back`."""
    peaks = []
    for files in (4, 40):
        texts(tmp_path / f"in-{files}", files, 2500)
        code = RUN + "\nfrom tests.peak import most_resident; print(most_resident())"
        command = [sys.executable, "-c", code, str(tmp_path / f"in-{files}"), str(tmp_path / f"{files}"), "1", "500"]
        peaks.append(int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[-1]))
    assert peaks[1] < 1.2 * peaks[0], peaks
