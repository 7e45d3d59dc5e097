"""Tar archives as streams: the bytes of one file at a time.

`tarfile` is not used: it takes a damaged or missing header for the archive's end, and reads the long names that a header
announces into memory, however long it says they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lehr.data.compressed import content
from lehr.data.damage import Damage, Damaged
from lehr.data.readers.reading import too_long

_BLOCK = 512  # bytes: headers have as many, contents are filled up to a multiple
_LONGEST_HEADER = 1 << 20  # bytes of names and other properties before a file
_READ = 1 << 20
_FILES, _FOLDER = b"07\0", b"5"
_NO_FILES = {b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"6": "device", b"S": "sparse file", b"V": "label"}
_AGAIN = "fetch or build the archive again"


@dataclass(frozen=True)
class Member:
    name: str
    data: bytes


@dataclass(frozen=True)
class _Header:
    name: str
    kind: bytes
    size: int


def members(
    path: Path, shown: str, longest: int, damage: Damage | None, wanted: Callable[[str], bool] | None = None
) -> Iterator[Member]:
    """The files of an archive (ustar, GNU or PAX, compressed or not) in its order, of those `wanted` by the last part of their
    names. Links, devices and sparse files are counted as skipped.

    Members that are longer than `longest` bytes, or whose names lead out of the archive, are met by `damage` (without it: left
    out). Raises Damaged where the archive can't be read on: it is truncated, or no header stands where one should.
    """
    with content(path, shown) as file:
        while header := _next(file, shown):
            folder = header.kind == _FOLDER or header.name.endswith("/")
            skipped = "" if folder or header.kind in _FILES else _NO_FILES.get(header.kind, "unknown member")
            last = header.name.rpartition("/")[2]
            if folder or skipped or (wanted and not wanted(last)):
                if damage and skipped:
                    damage.skip(skipped)
                _pass(file, header.size, shown)
                continue
            wrong = _wrong(header, shown, longest)
            if wrong is None:
                data = _exactly(file, header.size, shown)
                _pass(file, -header.size % _BLOCK, shown, whole=False)
                yield Member(_plain(header.name), data)
                continue
            _pass(file, header.size, shown)
            if damage:
                damage.met(wrong)


def _wrong(header: _Header, shown: str, longest: int) -> Damaged | None:
    where = f"{shown}: {header.name!r}"
    if header.name.startswith("/") or ".." in header.name.split("/"):
        what = "the name of this member leads out of the archive"
        return Damaged("name out of the archive", what, where=where, remedy="set damaged: skip, or build the archive anew")
    return too_long(where) if header.size > longest else None


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _next(file: BinaryIO, shown: str) -> _Header | None:
    """The header of the next member, with what headers before it say of it; None at the archive's end."""
    name, size, sparse = "", -1, False
    while True:
        raw = _exactly(file, _BLOCK, shown)
        if raw == bytes(_BLOCK):
            return None
        header = _parsed(raw, shown)
        if header.kind == b"L":
            name = _text(_property(file, header, shown).rstrip(b"\0"))
        elif header.kind == b"x":
            properties = _pax(_property(file, header, shown), shown)
            name = _text(properties.get(b"path", b"")) or name
            size = _number(properties[b"size"], 10, shown) if b"size" in properties else -1
            sparse = any(key.startswith(b"GNU.sparse.") for key in properties)
        elif header.kind in (b"K", b"g", b"X", b"N"):  # of links, of all members, of other systems
            _property(file, header, shown)
        else:
            if header.kind == b"S":
                _pass_maps(file, raw, shown)
            kind = b"S" if sparse else header.kind
            return _Header(name or header.name, kind, header.size if size < 0 else size)


def _parsed(raw: bytes, shown: str) -> _Header:
    expected = _number(raw[148:156], 8, shown)
    if expected != sum(raw) - sum(raw[148:156]) + 8 * 32:
        raise Damaged("damaged file", "no header of a tar archive where one should be", where=shown, remedy=_AGAIN)
    size = int.from_bytes(raw[125:136], "big") if raw[124] == 0x80 else _number(raw[124:136], 8, shown)
    name = raw[:100].partition(b"\0")[0]
    prefix = raw[345:500].partition(b"\0")[0] if raw[257:263] == b"ustar\0" else b""
    kind = raw[156:157]
    links = kind in b"123456"  # some archivers write a size that nothing follows
    return _Header(_text(prefix + b"/" + name if prefix else name), kind, 0 if links else size)


def _property(file: BinaryIO, header: _Header, shown: str) -> bytes:
    if header.size > _LONGEST_HEADER:
        what = f"a header of {header.size:,} bytes, where {_LONGEST_HEADER:,} are read"
        raise Damaged("decompression bomb", what, where=shown, remedy=_AGAIN)
    data = _exactly(file, header.size, shown)
    _pass(file, -header.size % _BLOCK, shown, whole=False)
    return data


def _pax(raw: bytes, shown: str) -> dict[bytes, bytes]:
    """The records of a PAX header: `LENGTH KEY=VALUE` and a line's end, the length being that of the whole record."""
    found = {}
    while raw:
        digits = raw[:20].partition(b" ")[0]
        length = _number(digits, 10, shown)
        key, equals, value = raw[len(digits) + 1 : length].partition(b"=")
        if length <= len(digits) or not equals:
            raise Damaged("damaged file", "a damaged header in this tar archive", where=shown, remedy=_AGAIN)
        found[key] = value.removesuffix(b"\n")
        raw = raw[length:]
    return found


def _pass_maps(file: BinaryIO, raw: bytes, shown: str) -> None:
    """Pass over the maps that follow the header of an old sparse file."""
    more = raw[482:483]
    while more != b"\0":
        more = _exactly(file, _BLOCK, shown)[504:505]


def _number(raw: bytes, base: int, shown: str) -> int:
    digits = raw.strip(b" \0")
    allowed = b"01234567" if base == 8 else b"0123456789"
    if digits.strip(allowed) or len(digits) > 20:
        raise Damaged("damaged file", "a damaged header in this tar archive", where=shown, remedy=_AGAIN)
    return int(digits or b"0", base)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _exactly(file: BinaryIO, size: int, shown: str) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise Damaged("damaged file", "truncated tar archive", where=shown, remedy=_AGAIN)
    return found


def _pass(file: BinaryIO, size: int, shown: str, *, whole: bool = True) -> None:
    """Read over `size` bytes, with `whole` up to the end of a block."""
    left = size + (-size % _BLOCK if whole else 0)
    while left > 0:
        left -= len(_exactly(file, min(left, _READ), shown))
