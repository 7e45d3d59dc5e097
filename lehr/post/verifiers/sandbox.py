"""Programs that a model wrote, run where they can do no harm: see lehr.runtime.jail and docs/security.md.

A kernel or an administrator may refuse what the sandbox is made of (user namespaces above all). Then nothing is run: `refusal`
says why.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import lehr
from lehr.runtime.errors import Bug, UserError
from lehr.runtime.jail import start
from lehr.runtime.jail.walls import WORK

_ROOT = str(Path(lehr.__file__).absolute().parent.parent)
_GUARD = f"import sys; sys.path.insert(0, {_ROOT!r}); from {start.__name__} import main; main()"
_PATIENCE_S = 10.0  # beyond the wall time, for a busy machine to build the jail and to clear it away
_MIB = 1 << 20
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64")  # of shared libraries


@dataclass(frozen=True)
class Limits:
    """What one program may use. `total_bytes`: resident memory of all its processes, looked at every 50 ms; `disk_bytes`: its
    folder, which lies in memory; `wall_s` 0: as long as its caller lives."""

    wall_s: float = 10.0
    cpu_s: int = 10
    memory_bytes: int = 512 * _MIB  # address space of each process
    total_bytes: int = 1024 * _MIB
    processes: int = 16
    file_bytes: int = 16 * _MIB
    disk_bytes: int = 32 * _MIB
    open_files: int = 64
    output_bytes: int = 64 * 1024


@dataclass(frozen=True)
class Outcome:
    """How a program ended: `why` is "" (by itself), "time", "memory" or "output"; `code` as a shell gives it."""

    why: str
    code: int
    output: str


@dataclass(frozen=True)
class Program:
    """Python source files by name (the first is run), and its standard input."""

    files: Mapping[str, str]
    stdin: str = ""
    limits: Limits = field(default_factory=Limits)


def run(program: Program) -> Outcome:
    """Run a program and clear away all that it started. Raises UserError where the sandbox cannot be had."""
    check_machine("code_tests")
    return _run(program)


REMEDY = (
    "allow unprivileged user namespaces to this user or pod (docs/limits.md, 'Programs that a model wrote'), or leave out the "
    "verifiers that need them"
)


@lru_cache(maxsize=1)
def refusal() -> str:
    """Why no sandbox can be had on this machine; "" if it can. Found out by running a program in one, once."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no namespaces"
    try:
        outcome = _run(Program({"main.py": "print('ready')"}))
    except Refused as refused:
        return str(refused)
    return "" if outcome.output == "ready\n" else f"a trial run ended with {outcome.why or outcome.code}"


def check_machine(name: str) -> None:
    """Raises UserError if this machine refuses the sandbox that verifier `name` needs."""
    if why := refusal():
        raise UserError(f"verifier {name!r}: what a model writes cannot be run safely here ({why})", remedy=REMEDY)


class Refused(Exception):
    """The jail was not built: the kernel's own words."""


def _run(program: Program) -> Outcome:
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    asked = {
        "walls": True,
        "readable": readable(),
        "limits": asdict(program.limits),
        "files": dict(program.files),
        "command": [python, "-I", "-S", "-B", next(iter(program.files))],
        "environment": {"HOME": WORK, "TMPDIR": WORK, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
        "stdin": program.stdin,
    }
    guard = start_guard(asked)
    try:
        output, cut = _read(guard, program.limits)
        return _outcome(guard, output, cut)
    finally:
        end(guard)


def readable() -> list[str]:
    """What a program sees of this machine's files: Python's own and shared libraries."""
    base = os.path.realpath(sys.base_prefix)
    shown = [path for path in _SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    return [base, *(path for path in shown if not path.startswith(f"{base}/"))]


def start_guard(asked: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """Start the jail's guard, with nothing of this process but three pipes."""
    line = json.dumps(asked).encode() + b"\n"
    command = [sys.executable, "-I", "-S", "-B", "-c", _GUARD]
    pipe = subprocess.PIPE
    guard = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/", close_fds=True)
    assert guard.stdin is not None
    try:
        guard.stdin.write(line)
        guard.stdin.flush()
    except BrokenPipeError:  # it says why on standard error
        return guard
    return guard


def _read(guard: subprocess.Popen[bytes], limits: Limits) -> tuple[bytes, bool]:
    """The program's output, as far as it may go; the guard is told to stop a program that writes more."""
    assert guard.stdout is not None
    until, output = time.monotonic() + limits.wall_s + _PATIENCE_S, b""
    while len(output) <= limits.output_bytes:
        if not select.select([guard.stdout], [], [], max(until - time.monotonic(), 0.0))[0]:
            return output, False
        part = os.read(guard.stdout.fileno(), 1 << 16)
        if not part:
            return output, False
        output += part
    return output[: limits.output_bytes], True


def _outcome(guard: subprocess.Popen[bytes], output: bytes, cut: bool) -> Outcome:
    if cut:
        guard.terminate()
    said = final_report(guard)
    if said.get("refused"):
        raise Refused(said["refused"])
    if "code" not in said:
        raise Bug(f"the sandbox's guard ended without a word (exit code {guard.returncode})")
    return Outcome("output" if cut else said["why"], said["code"], output.decode("utf-8", "replace"))


def final_report(guard: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the guard says at its end, which is waited for; {} if it said nothing."""
    assert guard.stderr is not None
    try:
        guard.wait(_PATIENCE_S * 2)
    except subprocess.TimeoutExpired:
        guard.kill()  # and with it, by the kernel, everything inside
        guard.wait()
    lines = guard.stderr.read().splitlines()
    try:
        said = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {"refused": lines[-1].decode(errors="replace")}
    return said if isinstance(said, dict) else {}


def end(guard: subprocess.Popen[bytes]) -> None:
    """Clear away a guard and everything inside its jail; it is gone when this returns."""
    if guard.poll() is None:
        guard.terminate()
        final_report(guard)
    for pipe in (guard.stdin, guard.stdout, guard.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:  # something was still to be written to it
                continue
