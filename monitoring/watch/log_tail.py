"""Follows a stage's log, `curves.jsonl`, while somebody else writes it: torn lines, truncation and replacement are normal."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lehr.monitoring.watch.small_files import opened

MOMENTS = 500  # that a log is thinned to: as many as a page can show
LIVE = 4  # that the rows of one look are thinned to, once the log has been read
_BLOCK = 1 << 20
_LONGEST = 1 << 16  # bytes of a line; longer ones are no row
_KEYS = 96  # numbers of a row; further ones are left out
_SUMMED = ("seconds", "skipped")
_LAST = ("step", "tokens")
Row = dict[str, float]


@dataclass
class Moment:
    """Some consecutive steps as one row: means, but sums of `seconds` and `skipped`, and the last `step` and `tokens`. `steps`
    counts them; 0: a row that is no step, such as an evaluation."""

    row: Row
    steps: int = 1


@dataclass
class LogTail:
    """The rows of the log at `path` that are new since the last look."""

    path: Path
    _offset: int = 0
    _file: tuple[int, int] = (0, 0)  # device and inode
    _torn: bytes = b""
    _skipping: bool = field(default=False)  # inside of a line that is too long

    def read(self) -> tuple[bool, list[Moment], float]:
        """Whether the log is another one, or shorter, than at the last look, so that what was read before is void; the new
        rows, thinned; and the Unix time of the last write, 0 if the file is not there."""
        file = opened(self.path)
        if file is None:
            return False, [], 0.0
        with file:
            about = os.fstat(file.fileno())
            anew = (about.st_dev, about.st_ino) != self._file or about.st_size < self._offset
            if anew:
                self._file, self._offset, self._torn, self._skipping = (about.st_dev, about.st_ino), 0, b"", False
            rows = list(thinned(self._rows(file), _stride(file, about.st_size) if anew else 1))
        return anew, rows if anew else _few(rows), about.st_mtime

    def _rows(self, file: BinaryIO) -> Iterator[Row]:
        file.seek(self._offset)
        while block := file.read(_BLOCK):
            self._offset += len(block)
            *lines, self._torn = (self._torn + block).split(b"\n")
            for line in lines:
                if not self._skipping and (row := _row(line)):
                    yield row
                self._skipping = False
            if len(self._torn) > _LONGEST:
                self._torn, self._skipping = b"", True


def _row(line: bytes) -> Row:
    """The numbers of a line; empty for what is no row. What is not finite is written as null, and left out."""
    try:
        found = json.loads(line) if len(line) <= _LONGEST else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    row = {str(k): _number(v) for k, v in list(found.items())[:_KEYS]}
    finite = {key: value for key, value in row.items() if math.isfinite(value)}
    if is_step(finite) and "loss" in row and "loss" not in finite:
        finite["not_finite"] = 1.0
    return finite if "step" in finite else {}


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _stride(file: BinaryIO, size: int) -> int:
    """So many rows become one moment: from the size of the file and the length of its first lines."""
    file.seek(0)
    lines = file.read(1 << 16).split(b"\n")
    mean = sum(map(len, lines)) / len(lines) + 1
    return max(1, math.ceil(size / mean / MOMENTS))


def is_step(row: Row) -> bool:
    """Whether it is a step's row, not that of an evaluation or of a rollback."""
    return "seconds" in row


def thinned(rows: Iterator[Row] | list[Row], stride: int) -> Iterator[Moment]:
    """Each `stride` steps as one moment; other rows each as one of their own."""
    waiting: list[Row] = []
    for row in rows:
        if is_step(row):
            waiting.append(row)
        if len(waiting) == stride or (waiting and not is_step(row)):
            yield _merged(waiting)
            waiting = []
        if not is_step(row):
            yield Moment(row, 0)
    if waiting:
        yield _merged(waiting)


def _few(moments: list[Moment]) -> list[Moment]:
    """Those of one look, which nobody will see one by one."""
    steps = sum(1 for moment in moments if moment.steps)
    if steps <= LIVE:
        return moments
    return list(thinned([moment.row for moment in moments], math.ceil(steps / LIVE)))


def _merged(rows: list[Row]) -> Moment:
    if len(rows) == 1:
        return Moment(rows[0])
    keys = dict.fromkeys(key for row in rows for key in row)
    found: Row = {}
    for key in keys:
        values = [row[key] for row in rows if key in row]
        if key in _LAST:
            found[key] = values[-1]
        else:
            found[key] = math.fsum(values) / (1 if key in _SUMMED or key == "not_finite" else len(values))
    return Moment(found, len(rows))
