"""What is known of all documents of a corpus while they are compared, and who is told of the progress."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lehr.config.data import Data
from lehr.data.preparation.pace import P, Pace, size_of
from lehr.data.preparation.parts import Part, Tally
from lehr.data.preparation.rows import Row, Rows
from lehr.data.preparation.splitting import GONE
from lehr.data.preparation.workers import run_all
from lehr.data.preparation.writing import FATES
from lehr.runtime.paths import beside

_SMALL = 64 << 20  # bytes of input below which starting processes costs more than they save


@dataclass(frozen=True)
class Watch:
    """Who is told of the progress: `note` of each step, `progress` of the parts done among all passes."""

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass
class Passes:
    """Runs the passes over the parts of one corpus, in processes where there is enough to do, and counts for the display."""

    config: Data
    parts: list[Part]
    watch: Watch
    total: int
    done: int = 0

    def run(self, step: str, tasks: Sequence[P]) -> None:
        """Raises what a task raises, and InfraError if processes keep being killed."""
        pace = Pace(step, tasks, self.watch.note)

        def finished(task: P) -> None:
            pace.after(task)
            self.one()

        cores = len(os.sched_getaffinity(0)) if sum(map(_size, self.parts)) >= _SMALL else 1
        run_all(tasks, self.config.processes or cores, finished)

    def one(self) -> None:
        """One more part is done."""
        self.done += 1
        self.watch.progress(self.done, self.total)


def _size(part: Part) -> int:
    """Bytes of its file. Those of an object in a store may be unknown: whoever keeps documents there has many."""
    return size_of(part) or (_SMALL if part.input is not None and part.input.version else 0)


@dataclass
class Compared:
    """`keys[i]` and `fates[i]` are those of kept document number i, and `tallies` each part's."""

    config: Data
    parts: list[Part]
    tallies: dict[int, Tally]
    keys: np.ndarray
    reasons: list[str] = field(default_factory=list)
    rows: str = "kept"  # the kind of a part's file that has the rows as they are now

    def __post_init__(self) -> None:
        self.fates = np.zeros(len(self.keys), FATES)
        self.starts = np.cumsum([0, *(self.tallies[part.number].kept for part in self.parts)])

    def drop(self, numbers: np.ndarray | Sequence[int], reason: str) -> None:
        """Documents of these numbers are gone, for one of few reasons."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.fates["split"][numbers] = GONE
        self.fates["reason"][numbers] = self.reasons.index(reason)

    @property
    def gone(self) -> int:
        return int(np.count_nonzero(self.fates["split"] == GONE))

    def save(self, path: Path) -> None:
        """What was found out, for whoever goes on: a join is not repeated after a kill."""
        partial = beside(path)
        facts = json.dumps({"reasons": self.reasons, "rows": self.rows})
        with partial.open("wb") as file:
            np.savez(file, fates=self.fates, characters=self.keys["characters"], facts=np.array(facts))
        partial.replace(path)

    def load(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as found:
            self.fates, self.keys["characters"] = found["fates"], found["characters"]
            facts = json.loads(str(found["facts"]))
        self.reasons, self.rows = facts["reasons"], facts["rows"]

    def spans(self) -> Iterator[tuple[Part, slice]]:
        """Each part, and the numbers of its documents."""
        for part, start, end in zip(self.parts, self.starts.tolist(), self.starts[1:].tolist(), strict=False):
            yield part, slice(start, end)

    def of_split(self, split: int) -> Iterator[Row]:
        """The rows of one split, in order."""
        for part, numbers in self.spans():
            rows = np.flatnonzero(self.fates["split"][numbers] == split)
            yield from Rows(part.file(self.rows)).at(rows.tolist())

    def texts(self, numbers: Sequence[int]) -> Iterator[str]:
        """The texts of documents by their numbers, which ascend."""
        wanted = np.asarray(numbers, np.int64)
        for part, span in self.spans():
            low, high = np.searchsorted(wanted, [span.start, span.stop])
            if low < high:
                rows = (wanted[low:high] - span.start).tolist()
                yield from (row["text"] for row in Rows(part.file(self.rows)).at(rows))
