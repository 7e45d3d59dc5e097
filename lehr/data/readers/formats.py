"""Which format a file is of."""

from __future__ import annotations

from pathlib import Path

from lehr.config.sources import FilesSource, Format
from lehr.data.compressed import COMPRESSED, content
from lehr.data.damage import Damaged
from lehr.data.supplied import NO_DATA

_ENDS: dict[Format, tuple[str, ...]] = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet",),
    "warc": (".warc", ".wet"),
    "code": (".tar", ".tgz", ".tzst", ".tbz2", ".txz"),
    "text": (".txt", ".text", ".md", ".rst"),
}
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257


def named(name: str) -> Format | None:
    """The format that a file's name tells, compressed or not; `code` for tar files."""
    last = name.lower().rpartition("/")[2]
    if last in NO_DATA:
        return None
    for end in COMPRESSED:
        last = last.removesuffix(end)
    return next((kind for kind, ends in _ENDS.items() if last.endswith(ends)), None)


def is_tar(path: Path, shown: str) -> bool:
    """Whether a file is a tar archive, by its content or its name. Raises as `compressed.content` does."""
    begins = _begins(path, shown)
    return begins[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC) or named(shown) == "code"


def format_of(source: FilesSource, shown: str, path: Path) -> Format:
    """The format in which the file at `path` is to be read: the source's, or for `auto` what its content says, or else its
    name, `shown`. Raises UserError and Damaged as `compressed.kind_of` does."""
    if source.format != "auto":
        return source.format
    begins = _begins(path, shown)
    if begins.startswith(b"PAR1"):
        return "parquet"
    if begins.startswith(b"WARC/"):
        return "warc"
    if begins[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        return "code"
    return named(shown) or ("jsonl" if begins.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "text")


def _begins(path: Path, shown: str) -> bytes:
    try:
        with content(path, shown) as file:
            return file.read(512)
    except Damaged as error:
        if error.reason != "damaged file":
            raise
        return b""  # whoever reads the file says so, and how much of it is lost
