"""Documents of addresses on a list."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from lehr.config.filters.origin import UrlBlocklistFilter
from lehr.data.document import Document
from lehr.data.lines import lines
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.errors import UserError

_LONGEST = 1 << 16  # bytes of a line
_PARTS = 30  # of a host or a path that are looked at: bounds the work for hostile addresses
_HOSTS_FILE = ("0.0.0.0", "127.0.0.1", "::", "::1")


def make(config: UrlBlocklistFilter) -> Filter:
    """Reads the list. Raises UserError for one that is damaged, empty or too large."""
    path = Path(config.file)
    hashes = array("Q")
    for number, raw in lines(path, _LONGEST):
        try:
            entry = _entry(raw.decode("utf-8"))
        except (UnicodeDecodeError, ValueError):
            raise UserError(
                "this line is neither a domain nor an address", where=f"{path}:{number}", remedy="correct it, or remove it"
            ) from None
        if entry:
            hashes.append(_hash(entry))
        if len(hashes) > config.most_entries:
            what = f"more than {config.most_entries:,} entries, of eight bytes of memory each"
            raise UserError(what, where=path, remedy="raise most_entries, or give a shorter list")
    if not hashes:
        raise UserError("a block-list without entries", where=path, remedy="add some, or remove the filter")
    listed = np.unique(np.frombuffer(hashes, np.uint64))

    def url_blocklist(document: Document) -> Keep | Drop:
        asked = np.array([_hash(prefix) for prefix in _prefixes(document.url)], np.uint64)
        places = np.minimum(np.searchsorted(listed, asked), len(listed) - 1)
        return Drop("URL on the block-list") if (listed[places] == asked).any() else Keep()

    return url_blocklist


def _hash(entry: str) -> int:
    """64 bits: of a billion addresses held against fifty million entries, fewer than one is taken for another."""
    return int.from_bytes(blake2b(entry.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _entry(line: str) -> str:
    """`example.org`, or `example.org/path`; "" for an empty line. Raises ValueError for what is no address."""
    words = line.partition("#")[0].split()
    if len(words) == 2 and words[0] in _HOSTS_FILE:
        words = words[1:]
    if len(words) > 1:
        raise ValueError("blanks")
    return "/".join(_split(words[0])).rstrip("/") if words else ""


def _split(url: str) -> tuple[str, str]:
    """Host, without `www.`, and path with its query, of an address or a bare domain. Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    host = (parts.hostname or "").strip(".").removeprefix("*.").removeprefix("www.")
    if not host:
        raise ValueError("no host")
    try:
        host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        pass  # compared as it is written
    query = f"?{parts.query}" if parts.query else ""
    return host, f"{parts.path}{query}".strip("/")


def _prefixes(url: str) -> Iterator[str]:
    """Whatever would stand on a list for this address: its host and the domains above it, and its paths from the top."""
    try:
        host, path = _split(url) if url else ("", "")
    except ValueError:  # an address that is none is on no list
        return
    labels, parts = host.split(".")[-_PARTS:], path.split("/")[:_PARTS]
    yield from (".".join(labels[i:]) for i in range(len(labels)) if host)
    yield from (f"{host}/{'/'.join(parts[: i + 1])}" for i in range(len(parts)) if path)
    if "?" in path:
        yield f"{host}/{path.partition('?')[0]}"
