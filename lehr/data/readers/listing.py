"""The files of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lehr.config.sources import FilesSource, Format
from lehr.data.damage import Damage
from lehr.data.readers.formats import named
from lehr.data.readers.licenses import LICENSE_BYTES, combined, is_license, nearest, recognized
from lehr.data.supplied import DataFile, hidden, of_split, supplied
from lehr.runtime.errors import UserError

Inside = Mapping[str, tuple[str, ...]]  # names below a folder, with their parts


@dataclass(frozen=True)
class Input(DataFile):
    """A file of a source.

    `repository`: it is one of a repository's, not an archive of them. `license` is then the SPDX expression of the nearest
    licence file above it, and `license_file` that file's name below the source's path; "" where there is none.
    """

    repository: bool = False
    license: str = ""
    license_file: str = ""


def inputs(source: FilesSource, damage: Damage | None = None) -> list[Input]:
    """The files of a source, in the order of their names: a function of what lies there. Links that cannot be followed go to
    `damage`, which stops by default. Raises UserError for a missing file, and where nothing is to be read, and as the store
    does."""
    damage = damage or Damage()
    code = source.format == "code" or (source.format == "auto" and (Path(source.path) / ".git").exists())
    choose = _CHOICES["code" if code else source.format]
    found = supplied(source.path, lambda inside: choose(inside, source.split), _any, damage.met)
    if len(found) == 1 and not found[0].name and not found[0].version and not Path(found[0].where).is_file():
        remedy = "correct `path` of this source, relative to the recipe"
        raise UserError("no such data file", where=source.path, remedy=remedy)
    if not found:
        what = "no data files" if source.format == "auto" else f"no data files of format {source.format}"
        remedy = "name a file, a folder or a pattern with some, and where names do not tell it, the source's format"
        raise UserError(what, where=source.path, remedy=remedy)
    repository = code and bool(found[0].name) and not _archives([file.where for file in found])
    listed = [Input(**asdict(file), repository=repository) for file in found]
    return _with_licenses(listed) if repository else listed


def _any(inside: Inside) -> list[str]:
    return list(inside)


def _of(*formats: Format) -> Callable[[Inside, str], list[str]]:
    """Of a folder, the files whose names tell one of `formats`."""

    def chosen(inside: Inside, split: str) -> list[str]:
        return [name for name in inside if not hidden(inside[name]) and named(name) in formats]

    return chosen


def _rows(inside: Inside, split: str) -> list[str]:
    return of_split({name: parts for name, parts in inside.items() if named(name) in ("jsonl", "parquet")}, split)


def _any_rows(kind: Format) -> Callable[[Inside, str], list[str]]:
    return lambda inside, split: of_split({n: parts for n, parts in inside.items() if named(n) == kind}, split)


def _texts(inside: Inside, split: str) -> list[str]:
    return [name for name in inside if not hidden(inside[name])]


def _archives_or_files(inside: Inside, split: str) -> list[str]:
    """A folder is one of archives or one of files, whichever are more: what tests of archivers have is no repository."""
    return _archives(inside) or list(inside)


def _archives(names: Iterable[str]) -> list[str]:
    """Those of `names` that are archives if they are no less than the others, else none."""
    every = list(names)
    archives = [name for name in every if named(name) == "code"]
    return archives if 2 * len(archives) >= len(every) else []


def _auto(inside: Inside, split: str) -> list[str]:
    """Rows and archives; texts only where there is nothing else, for most data sets have a README."""
    return sorted([*_rows(inside, split), *_of("warc", "code")(inside, split)]) or _of("text")(inside, split)


_CHOICES: dict[str, Callable[[Inside, str], list[str]]] = {
    "auto": _auto,
    "jsonl": _any_rows("jsonl"),
    "parquet": _any_rows("parquet"),
    "warc": _of("warc"),
    "text": _texts,
    "code": _archives_or_files,
}


def _with_licenses(files: list[Input]) -> list[Input]:
    """Files of repositories with their licences."""
    found: dict[str, dict[str, str]] = {}
    for file in files:
        folder, _, last = file.name.rpartition("/")
        if file.name and is_license(last) and 0 < file.size <= LICENSE_BYTES:
            found.setdefault(folder, {})[last] = recognized(file.local().read_bytes())
    here = {folder: combined(names) for folder, names in found.items()}
    found_for = [(file, nearest(file.name, here)) for file in files]
    return [replace(file, license=license_, license_file=where) for file, (license_, where) in found_for]
