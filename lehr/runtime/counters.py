"""Counts that the library keeps of its own work, for whoever exports them (monitoring/counted.py).

A module declares its counts where it makes them, as with `lehr.runtime.metrics`; adding to one costs about a microsecond and
never fails. Every process has its own. Under a launcher the ranks of one machine are several processes: where `LEHR_COUNTERS`
names a folder, each writes its counts there every few seconds, and one of them reads all.
"""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.util import Finalize
from pathlib import Path
from time import perf_counter
from typing import Any

from lehr.runtime.errors import Bug

FOLDER = "LEHR_COUNTERS"  # environment variable: where the processes of one machine put their counts
WRITE_SECONDS = 5.0
_PATTERN = "counts-{}.json"

Labels = tuple[str, ...]  # values, in the order of a count's label names


@dataclass
class Observed:
    """How often, and the sum; `buckets[i]` counts values up to the i-th bound, one more those above all bounds."""

    count: float = 0.0
    total: float = 0.0
    buckets: list[float] = field(default_factory=list)


class Count:
    """A number that only grows, one for each combination of label values. With `bounds`, also how its single amounts are
    distributed over these upper bounds."""

    def __init__(self, name: str, labels: Labels = (), bounds: tuple[float, ...] = ()) -> None:
        self.name, self.labels, self.bounds = name, labels, bounds
        self._lock, self._seen = threading.Lock(), dict[Labels, Observed]()

    def add(self, amount: float = 1.0, times: int = 1, /, **labels: str) -> None:
        """Add `amount`, at least 0, so many `times`. Adding 0 to a counter has it exported from now on, so that its first event
        is seen as growth. Raises Bug for other labels than were declared."""
        if labels.keys() != set(self.labels):
            raise Bug(f"{self.name} has the labels {self.labels}, not {[*labels]}")
        key = tuple(labels[name] for name in self.labels)
        with self._lock:
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = Observed(buckets=[0.0] * (len(self.bounds) + 1))
            seen.count += times
            seen.total += times * max(amount, 0.0)
            seen.buckets[bisect_left(self.bounds, amount)] += times
        _share_once()

    @contextmanager
    def timing(self, **labels: str) -> Iterator[None]:
        """Add the seconds that the block takes, however it ends."""
        began = perf_counter()
        try:
            yield
        finally:
            self.add(perf_counter() - began, **labels)

    def read(self) -> dict[Labels, Observed]:
        """A copy of this process's values."""
        with self._lock:
            return {key: Observed(seen.count, seen.total, [*seen.buckets]) for key, seen in self._seen.items()}

    def clear(self) -> None:
        """Forget all values: in a process that was forked, they are its parent's."""
        self._lock = threading.Lock()
        self._seen = {}


_DECLARED: dict[str, Count] = {}


def declare(name: str, labels: Labels = (), bounds: tuple[float, ...] = ()) -> Count:
    """A new count of that name. Raises Bug if it exists with other labels or bounds."""
    known = _DECLARED.setdefault(name, Count(name, labels, bounds))
    if (known.labels, known.bounds) != (labels, bounds):
        raise Bug(f"the count {name} is declared twice, with {known.labels} and {labels}")
    return known


def declared() -> list[Count]:
    """Every count that the loaded modules declare."""
    return [*_DECLARED.values()]


# -- several processes


def _share_once() -> None:
    """The first count in a process that is to share its counts starts the thread that writes them."""
    global _sharing
    if _sharing is None:
        place = os.environ.get(FOLDER)
        _sharing = bool(place)
        if place:
            path = Path(place) / _PATTERN.format(os.getpid())
            threading.Thread(target=_keep_writing, args=(path,), name="counters", daemon=True).start()
            Finalize(None, write, (path,), exitpriority=0)  # atexit's functions are not called in forked ranks


def _keep_writing(path: Path) -> None:
    """Until the process ends, or the folder is gone: whoever made it has ended, and what is counted next is another's."""
    global _sharing
    while not _ended.wait(WRITE_SECONDS):
        if not path.parent.is_dir():
            _sharing = None
            return
        write(path)


def write(path: Path) -> None:
    """Write this process's counts to `path`, in one step. A disk that is full, or a folder that is gone, costs the others a
    look at these counts and nothing else."""
    text = json.dumps({c.name: [[key, vars(seen)] for key, seen in c.read().items()] for c in declared()})
    beside = path.with_suffix(".new")
    with suppress(OSError):
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)


def read_all(folder: str | None = None) -> dict[str, dict[Labels, Observed]]:
    """The sums over this process and all that have written to `folder` (by default that of the environment), those that have
    ended included. A file that is damaged is passed over."""
    sums = {count.name: count.read() for count in declared()}
    place = folder or os.environ.get(FOLDER)
    for path in sorted(Path(place).glob(_PATTERN.format("*"))) if place else ():
        if path.name != _PATTERN.format(os.getpid()):
            with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                _merge(sums, json.loads(path.read_text(encoding="utf-8")))
    return sums


def _merge(sums: dict[str, dict[Labels, Observed]], found: Mapping[str, list[Any]]) -> None:
    for name, rows in found.items():
        mine = sums.setdefault(name, {})
        for key, seen in rows:
            other = Observed(float(seen["count"]), float(seen["total"]), [float(x) for x in seen["buckets"]])
            known = mine.setdefault(tuple(map(str, key)), Observed(buckets=[0.0] * len(other.buckets)))
            known.count += other.count
            known.total += other.total
            known.buckets = [a + b for a, b in zip(known.buckets, other.buckets, strict=True)]


def _after_fork() -> None:
    global _sharing, _ended
    _sharing, _ended = None, threading.Event()
    for count in _DECLARED.values():
        count.clear()


_sharing: bool | None = None
_ended = threading.Event()
_forked: Callable[[], None] = _after_fork
os.register_at_fork(after_in_child=_forked)
