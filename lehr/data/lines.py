"""Lines of a text file that somebody wrote: plain or compressed, each of bounded length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lehr.data.compressed import content, kind_of
from lehr.data.damage import Damaged, Met, stop

LONGEST = 64 << 20  # bytes of a line: what one document may take in memory, whatever its compressed size
_ENDLESS = 16  # a line of this many times the longest is no line: nothing after it is looked for
_BOM = b"\xef\xbb\xbf"
_REMEDIES = {
    "zip": "unpack it, and give the JSON-lines file in it",
    "Parquet": "write its rows as JSON lines, or make the source one of kind files, which reads Parquet",
}


def lines(path: Path, longest: int = LONGEST, *, shown: str = "", met: Met = stop) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not empty, the first one without a byte order mark. gzip, bzip2, xz and Zstandard
    are read.

    A line of more than `longest` bytes, of which no more than that is held in memory, is `met`, and passed over if that
    returns. Raises UserError for a missing file and a folder, Damaged for one that is damaged, a Git LFS pointer or of an
    unsupported kind. Messages name the file as `shown`.
    """
    shown = shown or str(path)
    kind = kind_of(path, shown)
    if kind in _REMEDIES:
        what = f"this is a {kind} file, not JSON lines"
        raise Damaged("another format", what, where=shown, remedy=_REMEDIES[kind])
    number = 0
    with content(path, shown) as file:
        while raw := file.readline(longest + 1):
            number += 1
            if len(raw) > longest:
                what = f"a line of more than {longest >> 20} MiB"
                remedy = "write one document a line, and cut larger ones"
                met(Damaged("too long", what, where=f"{shown}:{number}", remedy=remedy))
                if not _line_ends(file, raw, longest):
                    return
                continue
            raw = raw.removeprefix(_BOM) if number == 1 else raw
            if raw.strip():
                yield number, raw


def _line_ends(file: BinaryIO, raw: bytes, longest: int) -> bool:
    """Read on to the end of a long line that begins with `raw`; False if it is not met soon."""
    ended = raw.endswith(b"\n")
    for _ in range(_ENDLESS):
        if ended:
            break
        piece = file.readline(longest)
        ended = not piece or piece.endswith(b"\n")
    return ended
