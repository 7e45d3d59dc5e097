"""Where a run's metrics are served: a small file in its folder, for `lehr watch`. It is there while the run serves them."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lehr.artifacts.artifact import write_atomic
from lehr.monitoring.machine import PROC
from lehr.monitoring.watch.small_files import small_json

FILE = ".exporter.json"
_BOOT = PROC / "sys" / "kernel" / "random" / "boot_id"
# The folder may be anybody's: nothing but an exporter of this machine is asked because a file says so.
_LOOPBACK = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}/metrics")


@dataclass(frozen=True)
class Endpoint:
    """`started` is when the process began, in the kernel's ticks since `boot`: with its number it names one process."""

    url: str
    pid: int
    started: int
    boot: str


def announce(folder: Path, url: str) -> None:
    """Say that this process serves the metrics of the run in `folder` at `url`. A folder that cannot be written is left alone:
    monitoring makes no run fail."""
    endpoint = Endpoint(url, os.getpid(), _started(os.getpid()), _boot())
    with suppress(OSError):
        write_atomic(folder / FILE, json.dumps(asdict(endpoint)))


def withdraw(folder: Path) -> None:
    """Remove what `announce` wrote, unless another process has written its own since."""
    found = read(folder)
    if found is not None and (found.pid, found.started) == (os.getpid(), _started(os.getpid())):
        with suppress(OSError):
            (folder / FILE).unlink()


def read(folder: Path) -> Endpoint | None:
    """What the file says, true or not; None where there is none, or none that makes sense."""
    found = small_json(folder / FILE)
    if not isinstance(found, dict):
        return None
    url, pid, started, boot = (found.get(name) for name in ("url", "pid", "started", "boot"))
    if not (isinstance(url, str) and _LOOPBACK.fullmatch(url) and isinstance(boot, str)):
        return None
    return Endpoint(url, pid, started, boot) if type(pid) is int and type(started) is int and pid > 0 else None


def find(folder: Path) -> Endpoint | None:
    """Where the run in `folder` serves its metrics now. A file that a killed process left says nothing, nor does one of another
    machine, or of this one before it was started again."""
    found = read(folder)
    if found is None or found.boot != _boot() or found.started != _started(found.pid):
        return None
    return found if found.started else None


def _started(pid: int) -> int:
    """When a process began, in ticks since the machine's start; 0 if it is gone, or is a zombie, and without /proc."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
