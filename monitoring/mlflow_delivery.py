"""Sends a spool's records to MLflow, in order: this process's own, and before them what ended processes left in the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lehr.monitoring.mlflow_errors import brief, refused
from lehr.monitoring.mlflow_opening import Elect, Wanted
from lehr.monitoring.mlflow_runs import EXTRA, Runs
from lehr.monitoring.mlflow_spool import Record, Spool, leftovers
from lehr.runtime.redaction import masked

TRIES = 5  # after which a record is left out that fails while MLflow answers otherwise
_POINTS = 200  # training steps in one call at most
Say = Callable[[str], None]


class Delivery:
    """Sends to one store. Called from one thread only."""

    def __init__(self, wanted: Wanted, say: Say, elect: Elect | None = None) -> None:
        self._wanted, self._say, self._elect = wanted, say, elect
        self._runs: dict[str, Runs] = {}  # by run key
        self._failures = self._leftover_failures = 0  # of the oldest record, of the oldest file
        self._set_aside: set[Path] = set()  # files that cannot be sent
        self.sent = 0

    def connect(self) -> None:
        """Connect, unless this was done. Raises MLflow's errors."""
        self._of(self._wanted)

    @property
    def opened(self) -> bool:
        """Whether MLflow has answered once."""
        return bool(self._runs)

    def send(self, spool: Spool, root: Path | None = None) -> None:
        """Send all that waits; of a file that came from elsewhere only what is below `root`. Raises what MLflow raises while it
        is down; the rest stays in the spool then."""
        wanted = wanted_of(spool.header, self._wanted)
        while records := spool.peek():
            runs = self._of(wanted)
            for group in _groups(records):
                known = [record for record, _ in group if record is not None]
                if known and (root is None or _is_inside(known[0], root)):
                    self._take(runs, known)
                elif known:
                    self._say("a waiting record names files outside of the run, and is left out")
                else:
                    self._say("a line of its waiting records is damaged, and left out")
                spool.sent(sum(size for _, size in group))
                self.sent += len(group)
                self._failures = 0

    def send_leftovers(self, folder: Path, anywhere: bool = False) -> int:
        """Send what ended processes left in `folder` for this store, or, if `anywhere`, for any. Returns for how many files
        another store is meant. Raises what MLflow raises, and OSError."""
        others = 0
        for spool in leftovers(folder):
            try:
                if spool.path in self._set_aside:
                    continue
                if anywhere or self._is_for_here(spool.header):
                    self._send_leftover(spool, folder.resolve().parent)
                else:
                    others += 1
            finally:
                spool.close()
        return others

    def _send_leftover(self, spool: Spool, root: Path) -> None:
        try:
            self.send(spool, root)
        except Exception as error:
            self._leftover_failures += 1
            if self._leftover_failures < TRIES or not self._of(self._wanted).answers():
                raise
            # The file's own fault: it must not hold up what this process tracks.
            self._say(f"{spool.path.name} cannot be sent, and stays: {brief(error)}")
            self._set_aside.add(spool.path)
            self._leftover_failures = 0

    def _is_for_here(self, header: Record) -> bool:
        """Whether it was meant for this store; a run's own file may have been moved with the run."""
        own = self._wanted.artifact_location and header.get("artifact_location")
        return bool(own) or header.get("tracking_uri") == masked(self._wanted.tracking_uri)

    def _of(self, wanted: Wanted) -> Runs:
        if wanted.run_key not in self._runs:
            elect = self._elect if wanted.run_key == self._wanted.run_key else None
            self._runs[wanted.run_key] = Runs.open(wanted, self._say, elect)
        runs = self._runs[wanted.run_key]
        runs.process(wanted)
        return runs

    def _take(self, runs: Runs, records: Sequence[Record]) -> None:
        what = records[0].get("do")
        try:
            runs.take(records)
        except Exception as error:
            if not refused(error, extra=what in EXTRA):
                self._failures += 1
                # An error of the record's own, not of the store: it must not hold up the others for ever.
                if self._failures < TRIES or not runs.answers():
                    raise
            self._say(f"refused: {brief(error)}")


def header_of(wanted: Wanted) -> Record:
    """What a spool's first line says. The address is without its password: whoever sends has it from the environment."""
    return {**asdict(wanted), "tracking_uri": masked(wanted.tracking_uri)}


def wanted_of(header: Record, here: Wanted) -> Wanted:
    """The run of a spool, in the store of `here`."""
    location = here.artifact_location
    order = tuple(header.get("order", ()))
    return replace(Wanted(**{**header, "order": order}), tracking_uri=here.tracking_uri, artifact_location=location)


def _is_inside(record: Record, root: Path) -> bool:
    """Whether the files that the record wants copied are below `root`: who wrote it may have been somebody else."""
    named = [*record.get("paths", ()), *([record["model"]] if "model" in record else [])]
    return all(Path(path).resolve().is_relative_to(root) for path in named)


def _groups(records: Sequence[tuple[Record | None, int]]) -> Iterator[list[tuple[Record | None, int]]]:
    """Steps of one stage that follow each other together, everything else alone."""
    group: list[tuple[Record | None, int]] = []
    for record, size in records:
        if group and not (_stage(record) and _stage(record) == _stage(group[0][0]) and len(group) < _POINTS):
            yield group
            group = []
        group.append((record, size))
    if group:
        yield group


def _stage(record: Record | None) -> Any:
    return record["stage"] if record and record.get("do") == "point" else None
