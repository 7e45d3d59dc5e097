"""The addresses that this process's sockets listen on, as the kernel tells them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from lehr.train.parallel import Ranks

_LISTENS = "0A"


def listeners() -> list[str]:
    """Addresses of both families, one for each listening socket of this process."""
    links = [_link(path) for path in Path("/proc/self/fd").iterdir()]
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [_address(row[1].partition(":")[0]) for row in rows if row[3] == _LISTENS and row[9] in own]


def listeners_on_rank(ranks: Ranks) -> list[str]:
    """Every rank's, on rank 0, while all are in their group."""
    found = ranks.gather(listeners())
    ranks.gather(None)
    return [address for addresses in found for address in addresses]


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""


def _address(text: str) -> str:
    """The kernel writes an address as words of four bytes, each in the machine's own order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
