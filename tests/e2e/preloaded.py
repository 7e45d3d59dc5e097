"""`lehr` commands as forks of a process that has everything loaded: a dozen runs need not load torch a dozen times.

python preloaded.py SOCKET      serves the Unix socket with that file descriptor
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import helpers


class Command:
    """A command that runs: a process in a session of its own, as a terminal would give it. `output` and `errors` are its
    standard streams, open until the command and all that it started have ended."""

    def __init__(self, pid: int, server: socket.socket, output: TextIO, errors: TextIO) -> None:
        self.pid, self._server, self.output, self.errors = pid, server, output, errors
        self._code: int | None = None

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, negative for a signal's number; None if it does not end within `seconds`."""
        if self._code is None:
            self._server.settimeout(seconds)
            try:
                self._code = json.loads(self._server.recv(100))
            except (TimeoutError, BlockingIOError):
                return None
        return self._code


class Preloaded:
    """The loaded process. One command at a time."""

    def __init__(self, temporary: Path) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], cwd=helpers.ROOT, pass_fds=[theirs.fileno()],
                env={**helpers.environment(), "PYTHONPATH": str(helpers.ROOT), "TMPDIR": str(temporary)},
            )  # fmt: skip

    @contextmanager
    def lehr(self, *arguments: str | Path) -> Iterator[Command]:
        """`lehr ARGUMENTS`, begun; killed at the end of the block if it still runs."""
        streams = [os.pipe(), os.pipe()]
        request = json.dumps(list(map(str, arguments))).encode()
        socket.send_fds(self._socket, [request], [write for _, write in streams])
        for _, write in streams:
            os.close(write)
        self._socket.settimeout(120)
        pid = json.loads(self._socket.recv(100))
        with os.fdopen(streams[0][0]) as output, os.fdopen(streams[1][0]) as errors:
            command = Command(pid, self._socket, output, errors)
            yield command
            if command.wait(0) is None:
                os.kill(pid, 9)
                command.wait()

    def close(self) -> None:
        self._socket.close()  # which ends the process
        self._process.wait()


def _serve(server: socket.socket) -> None:
    while True:
        request, streams, _, _ = socket.recv_fds(server, 65_536, 2)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            server.close()
            _become(json.loads(request), streams)
        for stream in streams:
            os.close(stream)
        server.send(json.dumps(pid).encode())
        server.send(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(arguments: Sequence[str], streams: Sequence[int]) -> None:
    """End as `lehr ARGUMENTS` does."""
    os.setsid()
    for theirs, ours in zip(streams, (1, 2), strict=True):
        os.dup2(theirs, ours)
        os.close(theirs)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = ["lehr", *arguments]
    from lehr.cli.main import main

    try:
        code = main(arguments)
    except BaseException:  # noqa: BLE001 - `main` reports all that it knows
        traceback.print_exc()
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    work = ("lehr.train.pretraining", "lehr.evals.run", "lehr.post.pairs", "lehr.post.prompts", "lehr.interop.convert")
    for room in ("torch", "lehr.cli.local", *work):
        importlib.import_module(room)  # stages load their work late
    _serve(socket.socket(fileno=int(sys.argv[1])))
