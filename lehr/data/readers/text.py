"""Files and members of archives, each a document: texts, and the code of repositories."""

from __future__ import annotations

from collections.abc import Iterator

from lehr.config.sources import Format
from lehr.data.compressed import content
from lehr.data.damage import Damaged
from lehr.data.document import Document
from lehr.data.lines import LONGEST
from lehr.data.readers import tar
from lehr.data.readers.formats import is_tar
from lehr.data.readers.licenses import LICENSE_BYTES, combined, is_license, nearest, recognized, tagged
from lehr.data.readers.reading import Reading, printable, too_long

_BOM = b"\xef\xbb\xbf"
_BINARY_WITHIN = 8000  # bytes, as git has it


def documents(reading: Reading, found: Format) -> Iterator[Document]:
    """Raises Damaged for a file that cannot be read on."""
    one = reading.input
    if not one.repository and is_tar(reading.path, one.where):
        yield from _members(reading, found)
        return
    with content(reading.path, one.where) as file:
        raw = file.read(LONGEST + 1)
    path = one.name or one.where.rpartition("/")[2]
    known = {"path": path, "license": one.license, "license_file": one.license_file}
    yield from _made(reading, found, raw, reading.id() if one.name else reading.id(1), known)


def _members(reading: Reading, found: Format) -> Iterator[Document]:
    """The files of a tar archive. It is read twice if they may be under a licence of the repository's, which may stand anywhere
    in it: an archive that is unpacked as it is read has no way back."""
    here = _licenses(reading) if found == "code" else {}
    for member in tar.members(reading.path, reading.input.where, LONGEST, reading.damage):
        license_, file = nearest(member.name, here)
        known = {"path": member.name, "license": license_, "license_file": file}
        yield from _made(reading, found, member.data, reading.id(member.name), known, f"{reading.input.where}: {member.name}")


def _licenses(reading: Reading) -> dict[str, tuple[str, str]]:
    """By folder in the archive: expression and file of its licence. Damage is left to the second reading."""
    found: dict[str, dict[str, str]] = {}
    try:
        for member in tar.members(reading.path, reading.input.where, LICENSE_BYTES, None, is_license):
            folder, _, last = member.name.rpartition("/")
            found.setdefault(folder, {})[last] = recognized(member.data)
    except Damaged:
        pass  # what was found before holds for the files before
    return {folder: combined(files) for folder, files in found.items()}


def _made(reading: Reading, found: Format, raw: bytes, id_: str, known: dict[str, str], where: str = "") -> Iterator[Document]:
    """The document of a file's bytes, or none: binary files of repositories are skipped, other damage is met."""
    where = where or reading.input.where
    code = found == "code"
    if code and b"\0" in raw[:_BINARY_WITHIN]:
        reading.damage.skip("binary file")
        return
    try:
        if len(raw) > LONGEST:
            raise too_long(where)
        text = raw.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        if code:
            reading.damage.skip("not UTF-8")
            return
        what = f"invalid UTF-8 at byte {error.start}"
        reading.damage.met(Damaged("not UTF-8", what, where=where, remedy="re-encode the file as UTF-8"))
        return
    except Damaged as error:
        reading.damage.met(error)
        return
    metadata = {key: printable(known[key]) for key in ("path", "license_file") if known[key]}
    license_ = (tagged(text) if code else "") or known["license"]
    text_type = {"text_type": "code"} if code else {}
    yield reading.document(id_, text, where, license=license_, metadata=metadata, **text_type)
