"""Processors, memory, disks and shared memory of this machine, and what a folder is to be trusted with."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lehr.monitoring import machine
from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError, from_os_error
from lehr.runtime.findings import Finding, fail, of_error, ok, unseen, warn
from lehr.runtime.hardware import bf16_units, cpp_compiler

GIB = 1 << 30
CGROUP = Path("/sys/fs/cgroup")
MEMORY_BYTES = 3.5e9  # what is sold as 4 GB, which the tiny recipes need
SHARED_BYTES = 1 * GIB  # container engines give 64 MiB
FULL_BYTES, ROOM_BYTES = GIB // 2, 5 * GIB
_FREE = "free some space, or choose another folder"


def processor(bf16: Callable[[], bool] = bf16_units, cgroup: Path = CGROUP) -> Finding:
    """Cores that this process may use, and whether they multiply bf16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    units = "with bf16 units" if bf16() else "without bf16 units: `precision: auto` is fp32"
    share = _quota(cgroup)
    if share is not None and share < cores - 0.5:
        remedy = f"set OMP_NUM_THREADS={max(1, int(share))}: more threads than processors wait for each other"
        return warn("processor", f"{cores} cores are seen, and the container may use {share:g}; {units}", remedy)
    return ok("processor", f"{cores} core{'s' * (cores != 1)} {units}")


def _quota(cgroup: Path) -> float | None:
    """Processors that the control group allows, None for no limit."""
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    allowed, each = digits(quota), digits(period.strip())
    return allowed / each if allowed and each else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def memory(proc: Path = machine.PROC, cgroup: Path = CGROUP) -> Finding:
    """Main memory, or what the container may use of it."""
    read = machine.memory_bytes(proc)
    if read is None:
        return unseen("memory", f"{proc}/meminfo tells nothing")
    used, total = read
    limit = digits(_text(cgroup / "memory.max"))
    most = min(total, limit or total)
    text = f"{most / GIB:.1f} GiB" + (" (the container's limit)" if most < total else f", {(total - used) / GIB:.1f} free")
    if most < MEMORY_BYTES:
        return warn("memory", f"{text}; the tiny recipes need 4 GB", "give it more, or make the micro-batch smaller")
    return ok("memory", text)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Where the ranks of one machine exchange sums."""
    remedy = "give the container more: --shm-size=8g, or in a pod an emptyDir with `medium: Memory` at /dev/shm"
    try:
        size = shutil.disk_usage(folder).total
    except OSError as error:
        return warn("shared memory", f"{folder}: {error.strerror}; several ranks of a machine need it", remedy)
    if not os.access(folder, os.W_OK):
        return warn("shared memory", f"{folder} cannot be written; several ranks of a machine need it", remedy)
    if size < SHARED_BYTES:
        return warn("shared memory", f"{size >> 20} MiB in {folder}, which is little for several ranks", remedy)
    return ok("shared memory", f"{size / GIB:.1f} GiB")


def compiler(there: Callable[[], bool] = cpp_compiler) -> Finding:
    if there():
        return ok("C++ compiler", "there, for `compile: auto`")
    return warn("C++ compiler", "none: training is not compiled, and slower", "install g++")


def folder(check: str, where: Callable[[], Path]) -> Finding:
    """Try a folder with two small files, which are removed: what is written can be synced, renamed, linked and locked there,
    and there is room. `where` may raise UserError."""
    try:
        place = where()
        with _made(place):
            refused, free, names_left = _tried(place), shutil.disk_usage(place).free, _names_left(place)
    except UserError as error:
        return of_error(check, error)
    except OSError as error:
        return of_error(check, from_os_error(error, error.filename or ""))
    room = f"{free / GIB:.1f} GiB free in {place}"
    if refused:
        return fail(check, f"{place}: {refused}", "choose a folder on a file system that can, such as a local disk")
    if free < FULL_BYTES or not names_left:
        return fail(
            check,
            f"the disk is full: {room}" + ("" if names_left else ", and no inode"),
            "free some space, or choose another folder",
        )
    if free < ROOM_BYTES:
        return warn(check, f"{room}, which a run with checkpoints may fill", _FREE)
    return ok(check, room)


@contextmanager
def _made(place: Path) -> Iterator[None]:
    """The folder is there inside; one that nobody had made goes again, unless somebody has put something there."""
    made = [parent for parent in (place, *place.parents) if not parent.exists()]
    if not made and not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def _names_left(place: Path) -> bool:
    """Whether there is an inode for another file; a file system that does not count them has."""
    found = os.statvfs(place)
    return not found.f_files or found.f_favail > 0


def _tried(place: Path) -> str:
    """What the file system at `place` cannot do, "" for nothing. Raises OSError where nothing can be written."""
    names = [place / f".lehr-doctor-{uuid.uuid4().hex}" for _ in range(3)]
    try:
        return _capabilities(*names)
    finally:
        for name in names:
            name.unlink(missing_ok=True)


def _capabilities(written: Path, renamed: Path, linked: Path) -> str:
    with written.open("wb") as file:
        file.write(b"lehr")
        file.flush()
        os.fsync(file.fileno())
    os.replace(written, renamed)
    if renamed.read_bytes() != b"lehr":
        return "other bytes are read than were written"
    try:
        os.link(renamed, linked)
    except OSError as error:
        return f"files cannot be linked there ({error.strerror}), as saves are"
    return "" if _locks(renamed, linked) else "its locks hold nobody off, so overlapping attempts would overwrite each other"


def _locks(path: Path, same: Path) -> bool:
    """Whether a second opening of a file cannot lock it. It has two names, as a file of two hosts has."""
    with path.open("rb") as first, same.open("rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
