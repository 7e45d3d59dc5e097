"""Files that may be compressed, as streams of their content; the memory for them is bounded whatever they unpack to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from lehr.data.damage import Damaged
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import POINTER_REMEDY, is_pointer

# How files of a kind begin, and how their names end. What a file holds decides; the name, where it begins like none of them.
_KINDS: dict[str, tuple[bytes, str]] = {
    "gzip": (b"\x1f\x8b", ".gz"),
    "bzip2": (b"BZh", ".bz2"),
    "xz": (b"\xfd7zXZ\x00", ".xz"),
    "Zstandard": (b"\x28\xb5\x2f\xfd", ".zst"),
    "zip": (b"PK\x03\x04", ".zip"),
    "Parquet": (b"PAR1", ".parquet"),
}
COMPRESSED = tuple(end for kind, (_, end) in _KINDS.items() if kind not in ("zip", "Parquet"))  # how their names end
_WINDOW = 128 << 20  # bytes that a Zstandard file may make its reader keep: as much as `zstd --long` writes
_BUFFER = 256 << 10
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)  # frames that hold none of the content (RFC 8878, 3.1.2)
_FRAME = int.from_bytes(_KINDS["Zstandard"][0], "little")


class _Zstandard(io.RawIOBase):
    """The content of a Zstandard file (RFC 8878), a block of at most 128 KiB at a time: a decompressor that is given more may
    return gigabytes at once, and zstandard's own stream takes a truncated file for a short one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._pieces = self._decompressed()
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Raises EOFError for a truncated file, ZstdError for a damaged one."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        taken = min(len(buffer), len(self._left))
        buffer[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken

    def _exactly(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise EOFError("it ends within a frame")
        return found

    def _decompressed(self) -> Iterator[bytes]:
        while magic := self._file.read(4):
            number = int.from_bytes(magic + self._exactly(4 - len(magic)), "little")
            if number in _SKIPPABLE:
                self._skip(int.from_bytes(self._exactly(4), "little"))
            elif number == _FRAME:
                yield from self._frame(magic)
            else:
                raise zstandard.ZstdError("no frame begins here")

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(size, _BUFFER)))

    def _frame(self, magic: bytes) -> Iterator[bytes]:
        one = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        flags = self._exactly(1)
        single, checksum = flags[0] >> 5 & 1, flags[0] >> 2 & 1
        header = (not single) + (0, 1, 2, 4)[flags[0] & 3] + (single, 2, 4, 8)[flags[0] >> 6]
        yield one.decompress(magic + flags + self._exactly(header))
        last = False
        while not last:
            begins = self._exactly(3)
            number = int.from_bytes(begins, "little")
            last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
            if kind == 3 or size > 128 << 10:
                raise zstandard.ZstdError("no block begins here")
            yield one.decompress(begins + self._exactly(1 if kind == 1 else size))
        if checksum:
            yield one.decompress(self._exactly(4))


class _Pieces(io.RawIOBase):
    """A stream of the standard library by single pieces: its own `read` loses what it has already unpacked where the next piece
    is damaged."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece: bytes = self._file.read1(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


_STREAMS: dict[str, Callable[[Path], Any]] = {
    "": lambda path: path.open("rb"),
    "gzip": gzip.GzipFile,
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "Zstandard": _Zstandard,
}


def kind_of(path: Path, shown: str = "") -> str:
    """The name of the file's kind by what it holds, or else by the end of its name, `shown`; "" if neither says one. Raises
    UserError for a missing file and a folder, Damaged for a Git LFS pointer."""
    shown = shown or str(path)
    try:
        with path.open("rb") as file:
            begins = file.read(8)
    except FileNotFoundError:
        remedy = "correct `path` of this source, relative to the recipe"
        raise UserError("no such data file", where=shown, remedy=remedy) from None
    except IsADirectoryError:
        raise UserError("this is a folder, not a JSON-lines file", where=shown, remedy="name one file") from None
    if is_pointer(path):
        what = "this is a Git LFS pointer, not the file itself"
        raise Damaged("Git LFS pointer", what, where=shown, remedy=POINTER_REMEDY)
    by_content = next((kind for kind, (magic, _) in _KINDS.items() if begins.startswith(magic)), "")
    return by_content or next((kind for kind, (_, end) in _KINDS.items() if shown.lower().endswith(end)), "")


@contextmanager
def content(path: Path, shown: str = "") -> Iterator[BinaryIO]:
    """The content of a file, decompressed if it is of a kind that can be, else as it is. Raises as `kind_of` does, and Damaged
    for a file that ends too soon or cannot be decompressed, whichever of its users' reads finds that."""
    shown = shown or str(path)
    kind = kind_of(path, shown)
    if kind not in _STREAMS:
        kind = ""
    try:
        with _STREAMS[kind](path) as file:
            if not kind:
                yield file
            else:
                yield io.BufferedReader(file if isinstance(file, _Zstandard) else _Pieces(file), _BUFFER)
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError) as error:
        if not kind or (isinstance(error, OSError) and error.errno is not None):  # an error of the disk, not of the content
            raise
        what = f"damaged {kind} file ({error})"
        raise Damaged("damaged file", what, where=shown, remedy="fetch or build the file again") from None
