"""The addresses that a process's sockets listen on, as the kernel tells them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

from lehr.distributed.ranks import Ranks

_LISTENS = "0A"


def listeners(processes: Iterable[int | str] = ("self",)) -> list[str]:
    """Addresses of both families, one for each listening socket of these processes, by default of this one. A process that has
    ended meanwhile has none."""
    links = [_link(path) for process in processes for path in _within(Path(f"/proc/{process}/fd"))]
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [_address(row[1].partition(":")[0]) for row in rows if row[3] == _LISTENS and row[9] in own]


def listeners_on_rank(ranks: Ranks) -> list[str]:
    """Every rank's, on rank 0, while all are in their group."""
    found = ranks.gather(listeners())
    ranks.gather(None)
    return [address for addresses in found for address in addresses]


def family(process: int) -> set[int]:
    """A process and all that descend from it."""
    found, waiting = set[int](), [process]
    while waiting:
        each = waiting.pop()
        found.add(each)
        for thread in _within(Path(f"/proc/{each}/task")):
            waiting += _children(thread / "children")
    return found


def _children(path: Path) -> list[int]:
    try:
        return [int(child) for child in path.read_text().split()]
    except OSError:  # it has ended
        return []


def _within(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""


def _address(text: str) -> str:
    """The kernel writes an address as words of four bytes, each in the machine's own order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
