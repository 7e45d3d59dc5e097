"""The jail's own three processes: a guard outside, the first process inside, and the program that it starts.

The guard is told in one line of JSON on its standard input: `readable`, `limits`, and either `files`, `command`, `stdin` (a
program is run once) or `serve` with `load` and `path` (a function answers further lines). It writes one line of JSON
on standard error when
all is over. When the first process ends, for whatever reason, the kernel kills everything inside and the guard reaps it.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from typing import Any

from lehr.runtime.jail import kernel, walls
from lehr.runtime.jail.calls import MACHINES
from lehr.runtime.jail.memory import resident_bytes
from lehr.runtime.jail.serve import serve

_WATCH_S = 0.05  # how often memory is looked at
REFUSED = 125  # exit code of the first process where a wall could not be built


def main() -> None:
    """Read what is asked for, build the jail, wait until it is empty, say how it ended."""
    asked = json.loads(_read_line())
    os.environ.clear()
    machine = platform.machine()
    try:
        if "serve" not in asked:  # a server ends with its input: whatever thread began it, others may ask
            kernel.die_with_parent()
        if machine not in MACHINES:
            raise OSError(f"no filter of system calls for {machine}, only for {', '.join(MACHINES)}")
        if asked["walls"]:
            walls.enter_namespaces()
        said, says = os.pipe()
        first = os.fork()
    except OSError as error:
        _report({"refused": str(error)})
        return
    if not first:
        os.close(said)
        _first(asked, machine, says)
    os.close(says)
    _report(_guard(first, said, asked["limits"]))


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            break
        line += part
    return line


def _report(outcome: dict[str, Any]) -> None:
    os.write(2, json.dumps(outcome).encode() + b"\n")


def _guard(first: int, said: int, limits: dict[str, int]) -> dict[str, Any]:
    """Wait for the first process inside; kill it when time or memory is used up, or when told to (SIGTERM)."""
    waited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    os.close(0)
    os.close(1)  # their other ends then close with the program
    until = time.monotonic() + limits["wall_s"] if limits["wall_s"] else float("inf")
    why = ""
    while True:
        ended, status = os.waitpid(first, os.WNOHANG)
        if ended:
            break
        told = signal.sigtimedwait(waited, _WATCH_S)
        if told is not None and told.si_signo == signal.SIGTERM:
            why = why or "told"
        elif time.monotonic() > until:
            why = why or "time"
        elif resident_bytes(first) > limits["total_bytes"]:
            why = why or "memory"
        if why:
            os.kill(first, signal.SIGKILL)
    refused = os.read(said, 4096).decode(errors="replace")
    return {"refused": refused} if refused else {"why": why, "code": os.waitstatus_to_exitcode(status)}


def _first(asked: dict[str, Any], machine: str, says: int) -> None:
    """Process 1 inside. Ends as the program ends; never returns."""
    try:
        kernel.die_with_parent()
        if asked["walls"]:
            walls.build_root(asked["readable"], asked["limits"]["disk_bytes"], machine)
        if "serve" in asked:
            os.close(2)
            os.open("/dev/null", os.O_WRONLY)
            lock_up = walls.become_nobody if asked["walls"] else walls.limit_alone
            serve(asked["serve"], asked["load"], asked["path"], lambda: lock_up(asked["limits"], machine))
            os._exit(0)
        os._exit(_run(asked, machine, says))
    except BaseException as error:  # noqa: BLE001 - what refuses a wall is said, and nothing is run
        os.write(says, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(REFUSED)


def _run(asked: dict[str, Any], machine: str, says: int) -> int:
    """Start the program on its files, wait for it alone, and give its exit code as a shell would."""
    os.chdir(walls.WORK)
    for name, text in asked["files"].items():
        _place(name, text)
    _place(".stdin", asked["stdin"])
    program = os.fork()
    if not program:
        try:
            os.dup2(os.open(".stdin", os.O_RDONLY), 0)
            os.unlink(".stdin")
            os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
            says = os.dup2(says, 3, inheritable=False)  # closed by a successful exec
            os.closerange(4, 1 << 20)
            walls.become_nobody(asked["limits"], machine)
            os.execve(asked["command"][0], asked["command"], asked["environment"])
        except BaseException as error:  # noqa: BLE001 - what refuses a wall is said, and nothing is run
            os.write(says, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(REFUSED)
    os.close(1)
    while True:
        ended, status = os.wait()
        if ended == program:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _place(name: str, text: str) -> None:
    place = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    with os.fdopen(place, "wb") as file:
        file.write(text.encode("utf-8", "surrogatepass"))
    if os.geteuid() == 0:
        os.chown(name, walls.INSIDE, walls.INSIDE)
