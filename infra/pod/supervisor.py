"""The first process of a task's container: `python -m lehr.infra.pod.supervisor COMMAND ...`. It exits like its worst rank.

Under torchrun, or Flyte's Elastic task, a pod exits like its launcher: with 1, whatever the ranks reported, and with an error
that costs one of the user's retries. So a rank sends its termination message (tasks/termination.py) to this process through a
socket, and waits. This process then ends them all, the launcher before it can react, and uses the worst message and its code as
the pod's: a failed device (172), whenever it is reported; otherwise the first of a hang (173) and a failed store or network
(170), because ranks hang when they wait for one that has failed.
A 170 of a rank that was told to stop does not end the others, which may still be saving, until all have spoken. And if the
launcher ends by itself, a rank has died without a message: that takes precedence over the broken connections of its peers.

A pod that was itself told to end, and did so (170, 143), ends with 247: after an eviction Flyte's engine makes the user pay for
every other code.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lehr.infra.fleet.policy import NAMES

COUNTERS = "LEHR_COUNTERS"  # environment variable of lehr.runtime.counters: a folder for the counts of this pod's ranks
ADDRESS = "LEHR_TERMINATION_SOCKET"  # environment variable: the socket for termination messages
MAX_BYTES = 4096  # the kubelet's limit of a termination message, and so ours for a rank's
SETTLE_SECONDS = 3.0  # for the other ranks' messages
RESTART_SETTLE_SECONDS = 10.0  # a rank that lost a peer may report before that peer does, or before the launcher notices
CODES = (NAMES.exit_restart, NAMES.exit_hang, NAMES.exit_suspect)
NOT_FOUND = 127
TOLD = (NAMES.exit_restart, 128 + signal.SIGTERM)  # ends of a command that was told to end
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


@dataclass(frozen=True)
class Word:
    """A rank's message. `ranks` is the number of ranks in this pod; `stopped`: the rank was told to end."""

    code: int
    ranks: int
    stopped: bool
    text: dict[str, Any]


def parsed(data: bytes) -> Word | None:
    """The message in `data`, None for anything else."""
    try:
        text = json.loads(data)
        code, ranks, stopped = int(text.pop("code")), int(text.pop("ranks", 1)), bool(text.pop("stopped", False))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return Word(code, ranks, stopped, text) if code in CODES else None


@dataclass
class Ranks:
    """The messages so far, and when to act on them. `leaving`: the pod itself was told to end."""

    leaving: bool = False
    words: list[Word] = field(default_factory=list)
    first_at: float = 0.0

    def say(self, word: Word, now: float) -> None:
        if self.worst is None:
            self.first_at = now
        self.words.append(word)

    @property
    def worst(self) -> Word | None:
        counted = [word for word in self.words if self.leaving or not word.stopped]
        return next((word for word in counted if word.code == NAMES.exit_suspect), counted[0] if counted else None)

    def wait(self, now: float) -> float | None:
        """Seconds until all ranks are ended, 0 for now; None: not before the command ends by itself."""
        worst = self.worst
        if worst is None:
            return None
        everybody = len(self.words) >= max(word.ranks for word in self.words)
        if self.leaving and worst.code == NAMES.exit_restart and not everybody:
            return None
        settle = RESTART_SETTLE_SECONDS if worst.code == NAMES.exit_restart else SETTLE_SECONDS
        return 0.0 if everybody else max(0.0, self.first_at + settle - now)

    def exit_code(self, command: int) -> int:
        """The pod's exit code if `command` ended by itself with that code, which is the launcher's or a single rank's."""
        worst = self.worst
        if worst is None or command == 0:
            return command
        return worst.code if self.leaving or worst.code != NAMES.exit_restart else command


def run(command: list[str]) -> int:
    """Run `command` until it or its ranks end. Returns the exit code: 128 + n for signal n, 127 if there is no such command,
    247 if this process was told to end and the command did."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1)  # ranks whose launcher has died become children of this process
    ranks = Ranks()
    with tempfile.TemporaryDirectory(prefix="lehr-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(f"{folder}/words")
        wake = _wake_on_signals(door, f"{folder}/words")
        try:
            child = os.posix_spawnp(command[0], command, {**os.environ, ADDRESS: f"{folder}/words", COUNTERS: folder})
        except OSError as error:
            print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
            return NOT_FOUND
        _pass_on(child, ranks)
        try:
            code = _watch(child, door, ranks)
        finally:
            signal.set_wakeup_fd(wake)
    if code is None and ranks.worst is not None:
        code = ranks.worst.code
    _end_others()
    assert code is not None
    if ranks.worst is not None and code == ranks.worst.code:
        _publish(ranks.worst)
    return NAMES.exit_stopped if ranks.leaving and code in TOLD else code


def _wake_on_signals(door: socket.socket, address: str) -> int:
    """Make signals wake the socket too, as an empty message, so that one wait covers both. Returns the previous descriptor."""
    ring = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ring.connect(address)
    ring.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the default action would not write to the wake-up descriptor
    return signal.set_wakeup_fd(ring.detach(), warn_on_full_buffer=False)


def _pass_on(child: int, ranks: Ranks) -> None:
    """Forward SIGTERM and SIGINT to the command: the kubelet signals only the container's first process."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        ranks.leaving = True
        _send(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _watch(child: int, door: socket.socket, ranks: Ranks) -> int | None:
    """The pod's exit code once the command has ended; None if its ranks' messages end the pod."""
    while True:
        code = _reaped(child)
        if code is not None:
            _drain(door, ranks)
            return ranks.exit_code(code)
        wait = ranks.wait(time.monotonic())
        if wait == 0.0:
            return None
        door.settimeout(wait)
        with contextlib.suppress(TimeoutError):
            _take(door.recv(MAX_BYTES), ranks)


def _take(data: bytes, ranks: Ranks) -> None:
    word = parsed(data)
    if word is not None:
        ranks.say(word, time.monotonic())


def _drain(door: socket.socket, ranks: Ranks) -> None:
    door.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            _take(door.recv(MAX_BYTES), ranks)


def _reaped(child: int) -> int | None:
    """Reap all ended children, as PID 1 must; returns the exit code of `child` if it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                ended = os.waitstatus_to_exitcode(found[1])
                code = ended if ended >= 0 else 128 - ended
    return code


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _end_others() -> None:
    """Kill all descendants. One that hangs in the kernel is left; it ends with the pod."""
    # Repeated: a process may fork between the listing and the signal.
    for _ in range(20):
        found = descendants(os.getpid())
        if not found:
            return
        for process in found:
            _send(process, signal.SIGKILL)
        _reaped(-1)
        time.sleep(0.05)


def descendants(root: int) -> set[int]:
    """The processes below `root`, by /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(entry.parent.name)] = int(entry.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {process for process, parent in parents.items() if parent in found}
    return found - {root}


def _publish(word: Word) -> None:
    place = os.environ.get("LEHR_TERMINATION_LOG", "/dev/termination-log")
    try:
        Path(place).write_text(json.dumps(word.text)[:MAX_BYTES], encoding="utf-8")
    except OSError as error:
        print(f"no termination message: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if not sys.argv[1:]:
        print("usage: python -m lehr.infra.pod.supervisor COMMAND ...", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
