"""What the ranks of a pod of several say of their ends, before the pod's supervisor hears it.

A rank that lost a peer, or the store, says 170 and waits to be ended. The supervisor would end the pod for it; here that is
held, as the ranks may start again in this pod. A failed device is this node's to answer for, and so is a hang of so few nodes
that the controller tests them: those are passed on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from lehr.infra.pod.pod_template import BLAMED_NODES_MAX, EXIT_HANG, EXIT_RESTART, MAX_MESSAGE_BYTES, MESSAGE_SOCKET
from lehr.infra.pod.supervisor import Word, parsed
from lehr.tasks.progress import FILE


@dataclass
class RankWords:
    """`held` are the messages of this round that were kept back, `passed` those that the supervisor has."""

    held: list[tuple[Word, bytes]] = field(default_factory=list)
    passed: list[Word] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lehr-ranks-"))
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(str(self._folder / "words"))
        self._door.setblocking(False)

    def environment(self) -> dict[str, str]:
        """Where ranks send their messages, and rank 0 writes which state is kept."""
        return {MESSAGE_SOCKET: str(self._folder / "words"), FILE: str(self._folder / "kept")}

    def kept(self) -> int:
        """The step of the newest state that is kept, by rank 0 in this pod; -1 before there is one."""
        try:
            return int((self._folder / "kept").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return -1

    @property
    def waiting(self) -> int:
        """How many ranks wait to be ended. One that was told to stop ends by itself."""
        return sum(not word.stopped for word, _ in self.held)

    def begin(self) -> None:
        """A round begins: what was said before is over."""
        self.hear(False)
        self.held.clear()

    def hear(self, leaving: bool) -> None:
        """Take in what has been said. `leaving`: the pod itself was told to end, and the supervisor hears everything."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._door.recv(MAX_MESSAGE_BYTES)
                if (word := parsed(data)) is not None:
                    self.held.append((word, data))
        for word, data in list(self.held):
            if leaving or not _is_held(word):
                self.held.remove((word, data))
                self.passed.append(word)
                _pass_on(data)

    def close(self) -> None:
        self._door.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_held(word: Word) -> bool:
    nodes = word.text.get("nodes")
    many = isinstance(nodes, int) and nodes > BLAMED_NODES_MAX
    return word.code == EXIT_RESTART or (word.code == EXIT_HANG and many)


def _pass_on(data: bytes) -> None:
    """To the supervisor, where there is one."""
    place = os.environ.get(MESSAGE_SOCKET)
    if place:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.settimeout(1.0)
            door.sendto(data, place)
