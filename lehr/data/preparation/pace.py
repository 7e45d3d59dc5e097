"""How fast a pass over the parts of a corpus goes: counts for whoever exports them, and a line from time to time."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from lehr.data.preparation.parts import Part, Tally
from lehr.data.preparation.workers import Task
from lehr.runtime.counters import declare

PREPARED, PREPARED_BYTES = declare("documents_prepared", ("pass",)), declare("document_file_bytes", ("pass",))
FILTER, OVERLAP, WRITE = STEPS = ("filter", "overlap", "write")  # in this order; all that lies between them is one process's
NOTE_SECONDS = 30.0


class OfPart(Task, Protocol):
    """The work of a pass on one part."""

    @property
    def part(self) -> Part: ...


P = TypeVar("P", bound=OfPart)


class Pace:
    """Of one pass, called `step`. What was done before it began, by an attempt that was killed, has no part in its speed."""

    def __init__(self, step: str, tasks: Sequence[OfPart], note: Callable[[str], None]) -> None:
        self.step, self.note = step, note
        self._todo = {task.part.number: task.part for task in tasks if not task.done()}
        self._parts, self._size = len(self._todo), sum(map(size_of, self._todo.values()))
        self._documents = self._bytes = 0
        self._began = self._noted = time.monotonic()

    def after(self, task: OfPart) -> None:
        """The work of `task` is done."""
        part = self._todo.pop(task.part.number, None)
        if part is None:
            return
        documents = count(self.step, part)
        self._documents, self._bytes = self._documents + documents, self._bytes + size_of(part)
        now = time.monotonic()
        if self._todo and now - self._noted >= NOTE_SECONDS:
            self._noted = now
            self.note(self._said(now - self._began))

    def _said(self, seconds: float) -> str:
        done = self._parts - len(self._todo)
        share = self._bytes / self._size if self._bytes else done / self._parts
        speed = f"{self._documents / seconds:,.0f} documents/s, {self._bytes / seconds / 1e6:.1f} MB/s of files"
        left = f"{max(1, round(seconds * (1 - share) / share / 60)):,} min left in this pass"
        return f"{self.step}: {done:,} of {self._parts:,} parts, {speed}, {left}; {_held() >> 20:,} MiB held"


def count(step: str, part: Part) -> int:
    """Add a part that went through `step` to the counts of this process; the number of its documents."""
    tally = Tally.load(part.file("tally.json"))
    documents = tally.read if step == FILTER else tally.kept  # later passes go over what the first one kept
    PREPARED.add(documents, **{"pass": step})
    PREPARED_BYTES.add(size_of(part), **{"pass": step})
    return documents


def size_of(part: Part) -> int:
    """Bytes of its file as it lies there, compressed or not; 0 of a generator, and where a store does not say."""
    return part.input.size if part.input is not None else 0


def _held() -> int:
    """Resident bytes of this process and those that it gave work to; what they share counts for each."""
    pages = 0
    for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        status = Path(f"/proc/{pid}/statm")
        try:
            pages += int(status.read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError, ValueError):  # it has ended, or this is no Linux
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")
