"""The memory of a process and all its descendants, from outside: no limit of the kernel's that needs no rights counts it."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(first: int) -> int:
    """Resident memory of process `first` and its descendants. Shared pages count once for each: it is never too small."""
    below = {first}
    sizes: dict[int, int] = {}
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (found := _stat(name)):
            parents[int(name)], sizes[int(name)] = found
    grew = True
    while grew:
        more = {process for process, parent in parents.items() if parent in below} - below
        below |= more
        grew = bool(more)
    return sum(sizes.get(process, 0) for process in below) * _PAGE


def _stat(name: str) -> tuple[int, int] | None:
    """A process's parent and resident pages; None if it has ended meanwhile."""
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), int(fields[21])
