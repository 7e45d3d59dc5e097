"""Lines of a text file that somebody wrote: plain or compressed, each of bounded length."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from lehr.runtime.errors import UserError
from lehr.runtime.json_files import refuse_pointer

LONGEST = 64 << 20  # bytes of a line: what one document may take in memory, whatever its compressed size
_BOM = b"\xef\xbb\xbf"
# How files of a kind begin, and how their names end. What a file holds decides; the name, where it begins like none of them.
_KINDS: dict[str, tuple[bytes, str]] = {
    "gzip": (b"\x1f\x8b", ".gz"),
    "bzip2": (b"BZh", ".bz2"),
    "xz": (b"\xfd7zXZ\x00", ".xz"),
    "Zstandard": (b"\x28\xb5\x2f\xfd", ".zst"),
    "zip": (b"PK\x03\x04", ".zip"),
    "Parquet": (b"PAR1", ".parquet"),
}
_READERS: dict[str, Callable[[Path], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    "gzip": gzip.GzipFile,
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
_REMEDIES = {
    "Zstandard": "write it as .jsonl.gz: zstd -dc FILE | gzip > FILE.jsonl.gz",
    "zip": "unpack it, and give the JSON-lines file in it",
    "Parquet": "write its rows as JSON lines",
}


def lines(path: Path, longest: int = LONGEST) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not empty, the first one without a byte order mark. gzip, bzip2 and xz are read.

    Raises UserError for a file that is missing, damaged, a Git LFS pointer or of an unsupported kind, and for a line of more
    than `longest` bytes, of which no more than that is held in memory.
    """
    kind = _kind(path)
    if kind in _REMEDIES:
        raise UserError(f"this is a {kind} file, not JSON lines", where=path, remedy=_REMEDIES[kind])
    number = 0
    try:
        with _READERS[kind](path) if kind else path.open("rb") as file:
            while raw := file.readline(longest + 1):
                number += 1
                if len(raw) > longest:
                    what = f"a line of more than {longest >> 20} MiB"
                    raise UserError(what, where=f"{path}:{number}", remedy="write one document a line, and cut larger ones")
                raw = raw.removeprefix(_BOM) if number == 1 else raw
                if raw.strip():
                    yield number, raw
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if not kind or (isinstance(error, OSError) and error.errno is not None):  # an error of the disk, not of the content
            raise
        raise UserError(f"damaged {kind} file ({error})", where=path, remedy="fetch or build the file again") from None


def _kind(path: Path) -> str:
    """The name of the file's kind, "" if it is plain text."""
    try:
        with path.open("rb") as file:
            begins = file.read(8)
    except FileNotFoundError:
        raise UserError(
            "no such data file", where=path, remedy="correct `path` of this source, relative to the recipe"
        ) from None
    except IsADirectoryError:
        raise UserError("this is a folder, not a JSON-lines file", where=path, remedy="name one file") from None
    refuse_pointer(path)
    by_content = next((kind for kind, (magic, _) in _KINDS.items() if begins.startswith(magic)), "")
    return by_content or next((kind for kind, (_, end) in _KINDS.items() if path.suffix.lower() == end), "")
