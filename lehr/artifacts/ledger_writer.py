"""Writing one rank's entries of a cost ledger, in a thread: a disk or a store that is slow holds up no training."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lehr.artifacts.ledger import Entry, Metered, parse, prefix, total
from lehr.runtime.energy import Drawn, Power
from lehr.runtime.environment import whole
from lehr.runtime.errors import LehrError
from lehr.runtime.ports import Clock, FencingToken
from lehr.runtime.rank_environment import hosts, launched

LOG = logging.getLogger("lehr.ledger")
FOLDER_SECONDS = 5.0  # between two entries in a folder
STORE_SECONDS = 15.0  # in an object store, where each is a request
_FIRST_SECONDS = 1.0  # before the first one: most stages of a small run are over by then
_WAIT_SECONDS = 5.0  # for an entry to be written, and for those of other machines
_LOOK_SECONDS = 0.1


class LedgerWriter:
    """This rank's entry in the ledger of one attempt; `resume` and `end` go round the work. It counts from when it was made;
    energy from where `after`, the writer of this rank's work before, ended: a machine that waits for rank 0 draws some too.

    A failure to write is logged and tried again with the next entry: a cost never fails a stage.
    """

    def __init__(
        self, power: Power, clock: Clock, scratch: Path, fencing: FencingToken, after: LedgerWriter | None = None
    ) -> None:
        self.scratch, self.fencing = scratch, fencing
        self._power, self._clock = power, clock
        self._began = clock.seconds()
        self._before: Drawn = power.drawn() if after is None else after.read
        self.read: Drawn = self._before  # as the last entry has it
        self._rank, self._group = (whole("RANK", 0), whole("GROUP_RANK", 0)) if launched() else (0, 0)
        self._wake, self._elsewhere, self._lock = threading.Event(), 0.0, threading.Lock()
        self._thread: threading.Thread | None = None
        self._going = False

    def current(self, *, ended: bool = False) -> Entry:
        """As of now."""
        self.read = self._power.drawn()
        drawn = self.read.since(self._before)
        return Entry(
            attempt=self.fencing.number,
            rank=self._rank,
            group=self._group,
            host=socket.gethostname(),
            seconds=max(self._clock.seconds() - self._began, 0.0),
            metered=tuple(Metered(source=s, device=d, joules=joules) for (s, d), joules in sorted(drawn.parts.items())),
            gaps=(*drawn.gaps, *drawn.events),
            ended=ended,
        )

    def resume(self, *, announce: bool = False) -> None:
        """Write entries from now on. `announce`: the first one at once, and not `ended`."""
        if announce:
            self._bounded(lambda: self._put(ended=False))
        self._going = True
        self._wake.clear()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """An entry is written now, by the thread."""
        self._wake.set()

    def end(self) -> None:
        """The last entry is written, within seconds if it can be at all. Nothing to do where none is being written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._going = False
            self._wake.set()
            thread.join(_WAIT_SECONDS)

    def others(self, expected: int) -> list[Entry]:
        """What other ranks have spent in this attempt, once the entries of all `expected` machines have ended; after a few
        seconds what there is."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            found = self._others()
            groups = {self._group, *(entry.group for entry in found if entry.ended)}
            if all(entry.ended for entry in found) and len(groups) >= expected:
                return found
            if time.monotonic() > deadline:
                return found
            time.sleep(_LOOK_SECONDS if self.fencing.shared else 5 * _LOOK_SECONDS)

    def earlier(self) -> tuple[list[Entry], list[str]]:
        """The entries of other attempts, and the names of damaged ones."""
        entries, damaged = parse(self.fencing.entries(self.scratch))
        return [entry for entry in entries if entry.attempt != self.fencing.number], damaged

    def _others(self) -> list[Entry]:
        entries, _ = parse(self.fencing.entries(self.scratch, prefix(self.fencing.number)))
        found = [entry for entry in entries if entry.attempt == self.fencing.number and entry.rank != self._rank]
        with self._lock:
            more = total(found).joules - self._elsewhere
            if more > 0:
                self._power.elsewhere(more)
                self._elsewhere += more
        return found

    def _work(self) -> None:
        most = FOLDER_SECONDS if self.fencing.shared else STORE_SECONDS
        pause = _FIRST_SECONDS
        self._wake.wait(pause)
        while self._going:
            self._wake.clear()
            self._put(ended=False)
            pause = min(2 * pause, most)
            self._wake.wait(pause)
        self._put(ended=True)

    def _put(self, *, ended: bool) -> None:
        try:
            entry = self.current(ended=ended)
            self.fencing.keep_entry(self.scratch, entry.name, entry.model_dump_json())
            if self._rank == 0 and hosts() > 1 and not ended:
                self._others()
        except (LehrError, OSError) as error:
            LOG.warning("no entry in the energy ledger of %s: %s", self.scratch.name, error)

    @staticmethod
    def _bounded(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="ledger", daemon=True)
        thread.start()
        thread.join(_WAIT_SECONDS)
