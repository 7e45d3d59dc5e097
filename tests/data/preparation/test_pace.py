"""What is told of the speed of a pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lehr.config.sources import FilesSource
from lehr.data.preparation import pace
from lehr.data.preparation.pace import FILTER, OVERLAP, Pace
from lehr.data.preparation.parts import Part, Tally
from lehr.data.readers import Input


@dataclass(frozen=True)
class Work:
    part: Part
    before: bool = False

    def done(self) -> bool:
        return self.before

    def fetched(self) -> Work:
        return self

    def __call__(self) -> None:
        Tally(read=50, kept=40).write(self.part.file("tally.json"))


def works(folder: Path, count: int) -> list[Work]:
    source = FilesSource(kind="files", path=str(folder), license="CC0-1.0")
    made = [Part(n, "a", source, Input(f"{n}.jsonl", str(folder / f"{n}.jsonl"), size=2_000_000), folder) for n in range(count)]
    return [Work(part, before=part.number == 0) for part in made]


def test_speed_and_time_left_are_of_what_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, notes = [100.0], list[str]()
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    before = {key: seen.total for key, seen in pace.PREPARED.read().items()}
    todo = works(tmp_path, 6)
    for step, documents in ((FILTER, 250), (OVERLAP, 200)):  # the first part was done by an earlier attempt
        watched = Pace(step, todo, notes.append)
        for work in todo:
            work()
            now[0] += 20.0 if not work.done() else 0.0
            watched.after(work)
        assert pace.PREPARED.read()[(step,)].total - before.get((step,), 0.0) == documents
    first, second, *_ = notes
    assert first.startswith("filter: 2 of 5 parts, 2 documents/s, 0.1 MB/s of files, 1 min left in this pass; ")
    assert second.startswith("filter: 4 of 5 parts")
    assert first.endswith(" MiB held") and int(first.split()[-3].replace(",", "")) > 10
    assert len(notes) == 4, "one in NOTE_SECONDS, and none at the end"
