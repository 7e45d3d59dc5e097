"""Processors, memory, disk and network of this machine, and the processes of this run, from Linux's /proc.

Values that cannot be read are left out: monitoring must never make a run fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_CPU_FIELDS = 8  # user to steal; guest time, after them, is already part of user


@dataclass(frozen=True)
class Memory:
    """Resident bytes. `peak` adds the largest size of each living process, so it is an upper bound of the tree's peak."""

    now: int
    peak: int


def descendants(proc: Path = PROC, of: int | None = None, among: Iterable[int] | None = None) -> dict[int, list[str]]:
    """The living descendants of this process, or of the process `of`, by process ID, each with its `stats`; empty without
    /proc. `among`: those that may be some, for the others' files need not be read."""
    children: dict[int, list[tuple[int, list[str]]]] = {}
    for pid, fields in stats(proc, among):
        children.setdefault(int(fields[1]), []).append((pid, fields))
    found: dict[int, list[str]] = {}
    todo = [os.getpid() if of is None else of]
    while todo:
        own = children.get(todo.pop(), [])
        found.update(own)
        todo += [pid for pid, _ in own]
    return found


def processes(proc: Path = PROC) -> frozenset[int]:
    """The IDs of the machine's processes; empty without /proc."""
    try:
        return frozenset(int(name) for name in os.listdir(proc) if name.isascii() and name.isdigit())
    except OSError:
        return frozenset()


def stats(proc: Path = PROC, pids: Iterable[int] | None = None) -> Iterator[tuple[int, list[str]]]:
    """Each process of the machine, or of those with these IDs, with the fields of its `stat` after the name."""
    for pid in processes(proc) if pids is None else pids:
        try:
            with open(f"{proc}/{pid}/stat", "rb") as file:
                # Split after the last bracket: a process's name, in brackets, may itself contain spaces and brackets.
                yield pid, file.read().decode("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # the process ended in the meantime


def tree_memory(proc: Path = PROC) -> Memory:
    """Memory of this process and its descendants together. A page that several of them share counts once for each."""
    now = peak = 0
    for pid in (os.getpid(), *descendants(proc)):
        sizes = kilobytes(proc / str(pid) / "status")
        now += sizes.get("VmRSS", 0)
        peak += sizes.get("VmHWM", 0)
    return Memory(now, peak)


def cpu_seconds(proc: Path = PROC) -> tuple[float, float] | None:
    """Seconds over all processors since the machine started: busy, and in all. Idle time and waiting for a disk are not
    busy."""
    try:
        first = (proc / "stat").read_text(encoding="utf-8").partition("\n")[0].split()
        ticks = [int(field) for field in first[1 : 1 + _CPU_FIELDS]]
    except (OSError, ValueError):
        return None
    if len(ticks) < _CPU_FIELDS:
        return None
    second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[3] - ticks[4]) / second, sum(ticks) / second


def memory_bytes(proc: Path = PROC) -> tuple[int, int] | None:
    """Bytes of main memory: in use, as `free` defines it (total minus available), and in all."""
    table = kilobytes(proc / "meminfo")
    if not {"MemTotal", "MemAvailable"} <= table.keys():
        return None
    return table["MemTotal"] - table["MemAvailable"], table["MemTotal"]


def disk_bytes(folder: Path) -> tuple[int, int] | None:
    """Bytes of the disk that holds `folder`, which need not exist yet: in use, and free for this user."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    try:
        found = shutil.disk_usage(there) if there is not None else None
    except OSError:
        return None
    return (found.used, found.free) if found else None


def network_bytes(proc: Path = PROC) -> tuple[int, int] | None:
    """Bytes received and sent over all interfaces, loopback included, since the machine started."""
    received = sent = 0
    try:
        for line in (proc / "net" / "dev").read_text(encoding="utf-8").splitlines()[2:]:
            fields = line.partition(":")[2].split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    except (OSError, ValueError, IndexError):
        return None
    return received, sent


def kilobytes(file: Path) -> dict[str, int]:
    """Lines `Name:  123 kB` of a file in /proc as bytes; other lines are left out, and all where it cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows = ((name, value.split()) for name, _, value in (line.partition(":") for line in lines))
    return {name: int(words[0]) * 1024 for name, words in rows if len(words) == 2 and words[1] == "kB" and words[0].isdigit()}


def process_age(proc: Path = PROC) -> float:
    """Seconds since this process began; 0 without /proc."""
    try:
        began = int((proc / "self" / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
        up = float((proc / "uptime").read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, up - began / os.sysconf("SC_CLK_TCK"))
