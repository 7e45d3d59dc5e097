"""Fencing: attempts at one stage can overlap, since an orchestrator starts the next pod during the old one's grace period.
Each attempt takes the next number; from then on no older attempt can publish a save or an artifact."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from lehr.artifacts.artifact import sha256_text, write_atomic
from lehr.artifacts.incidents import LivenessLock, described, of_older
from lehr.artifacts.ledger import read_entries, write_entry
from lehr.runtime.errors import InfraError, Preempted, UserError
from lehr.runtime.ports import Conflict

_PATIENCE_SECONDS = 60.0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path`'s flock, which the kernel releases when its holder dies. Raises InfraError if it stays taken for a minute: it
    is only held for renames, so its holder must be hanging."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                # Non-blocking in a loop: a blocking flock has no timeout.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InfraError(f"{path}: a process that hangs holds this lock; end it and try again") from None
                time.sleep(0.005)
        yield


def _said(path: Path, value: str) -> dict[str, Any]:
    """An attempt's record. Raises UserError if it is damaged: nobody can tell then which attempt is the newest."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and type(said.get("attempt")) is int:
        return said
    raise UserError("damaged record of attempts", where=path, remedy="delete it and run the same command again")


class Keys:
    """Small values under a folder with conditional puts; a value's hash is its version, like an ETag in an object store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> tuple[str, str] | None:
        """(value, version), or None if there is none."""
        path = self.root / key
        if not path.is_file():
            return None
        value = path.read_text(encoding="utf-8", errors="replace")  # the caller, who knows the format, reports damage
        return value, sha256_text(value)

    def put(self, key: str, value: str, version: str | None) -> str:
        """Replace `version` (None: no value yet) by `value`; returns the new version. Raises Conflict if the present version is
        another."""
        with self.lock(key):
            found = self.get(key)
            if (found[1] if found else None) != version:
                raise Conflict(key)
            write_atomic(self.root / key, value)
        return sha256_text(value)

    def lock(self, key: str) -> AbstractContextManager[None]:
        path = self.root / key
        return locked(path.with_name(f".{path.name}.lock"))


def attempt(number: int) -> dict[str, str | int]:
    """The record of an attempt that begins now."""
    who: dict[str, str | int] = {"attempt": number, "token": uuid.uuid4().hex}
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {**who, "host": socket.gethostname(), "process": os.getpid(), "began": began}


def overtaken(name: str, number: int, now: Mapping[str, Any]) -> Preempted:
    """The error with which superseded attempt `number` at `name` ends; `now` is the record of the newest attempt."""
    newer = "its record is gone: the run's folder was removed or replaced"
    if now:
        newer = f"attempt {now['attempt']} began on {now['host']} (process {now['process']}) at {now['began']}"
    return Preempted(f"{name}: attempt {number} is over, {newer}; nothing more of the older attempt is kept")


@dataclass(frozen=True)
class Fence:
    """One attempt's fencing token, stored in `key` of the folder `root`; see `lehr.runtime.ports.FencingToken`."""

    root: Path
    key: str
    number: int
    token: str
    # At most one, on rank 0's machine.
    liveness_locks: list[LivenessLock] = field(default_factory=list, compare=False, repr=False)
    shared: ClassVar[bool] = True  # all machines of a run see the same folder

    def __reduce__(self) -> tuple[Any, ...]:
        # Other ranks receive a copy in their own process; only the rank that runs the stage holds the liveness lock.
        return (Fence, (self.root, self.key, self.number, self.token))

    @classmethod
    def take(cls, root: Path, name: str) -> Fence:
        """Take the next attempt number of `name`, atomically. Every older attempt is fenced off from now on. Raises UserError
        if the record is damaged."""
        keys, key = Keys(root), f"attempts/{name}.json"
        while True:
            found = keys.get(key)
            number = _said(root / key, found[0])["attempt"] + 1 if found else 1
            who = attempt(number)
            try:
                keys.put(key, json.dumps(who), found[1] if found else None)
            except Conflict:
                continue  # another attempt began at the same moment: take the number after its
            return cls(root, key, number, str(who["token"]))

    @property
    def work(self) -> str:
        """See `lehr.runtime.ports.FencingToken`."""
        return str(self.root / self.key)

    def enter(self, scratch: Path, note: Callable[[str], None]) -> None:
        """See `lehr.runtime.ports.FencingToken`."""
        of_older(scratch, self.number, note)
        found = Keys(self.root).get(self.key)
        who = _said(self.root / self.key, found[0]) if found else {}
        if who.get("token") == self.token:  # otherwise there is a newer attempt, and the next `check` ends this one
            self.liveness_locks.append(LivenessLock(scratch, self.number, described(who)))

    def leave(self, exit_reason: str) -> None:
        """See `lehr.runtime.ports.FencingToken`."""
        while self.liveness_locks:
            self.liveness_locks.pop().leave(exit_reason)

    def check(self) -> None:
        """Raises Preempted if a newer attempt has begun."""
        found = Keys(self.root).get(self.key)
        now = _said(self.root / self.key, found[0]) if found else {}
        if now.get("token") != self.token:
            raise overtaken(Path(self.key).stem, self.number, now)

    @contextmanager
    def critical_section(self) -> Iterator[None]:
        """No newer attempt can begin while inside. Raises Preempted if one has begun already."""
        with Keys(self.root).lock(self.key):
            self.check()
            yield

    def upload(self) -> None:
        """Nothing to do: the next attempt reads the same scratch folder."""

    def flush(self) -> None:
        """See `upload`."""

    def here(self, path: Path) -> Path:
        """The path itself: every machine sees the same folder."""
        return path

    def send(self, part: Path) -> str:
        """See `here`."""
        return ""

    def bring(self, folder: Path) -> None:
        """See `here`."""

    def keep_entry(self, scratch: Path, name: str, entry: str) -> None:
        """See `lehr.runtime.ports.FencingToken`."""
        write_entry(scratch, name, entry)

    def entries(self, scratch: Path, prefix: str = "") -> dict[str, str]:
        """See `keep_entry`."""
        return read_entries(scratch, prefix)
