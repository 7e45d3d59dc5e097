"""The files that a path names: one file, a folder or a pattern, on this machine or in an object store."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath

from lehr.artifacts.artifact import sha256_file
from lehr.data.damage import Damaged, Met
from lehr.data.remote_files import remote_files, scheme_of

_SPLITS = ("train", "test", "validation", "valid", "dev", "eval")
NO_DATA = ("dataset_info.json", "dataset_infos.json", "state.json")  # files in which a data set tells of itself
_OF_VERSION_CONTROL = (".git", ".hg", ".svn")  # folders
_LINK_REMEDY = "put the files themselves there, or name the folder that the link leads to"


@dataclass(frozen=True)
class DataFile:
    """A supplied file. `where` is its path or its address, as messages name it; of an object, `version` tells its content.

    `name` is its name below the folder that was named, or below a pattern's part without wildcards; "" if the path names it
    alone. `size` is in bytes. `copy` is the path of an object's copy on this machine, once it was fetched."""

    where: str
    version: str = ""
    name: str = ""
    size: int = 0
    copy: str = ""

    def local(self) -> Path:
        """A path to read it from: its own, or that of a copy, which is fetched if it is not here yet."""
        if self.copy or not self.version:
            return Path(self.copy or self.where)
        return remote_files(self.where).fetch(self.where, self.version)

    def digest(self) -> str:
        """What tells its content: SHA-256, or the store's word, for which no object is fetched; nothing of a missing file."""
        if self.version:
            return self.version
        path = Path(self.where)
        return sha256_file(path) if path.is_file() else ""  # whoever reads it says what is wrong


Choose = Callable[[Mapping[str, tuple[str, ...]]], list[str]]  # of names below a folder, with their parts, those to read


def supplied(path: str, in_folder: Choose, in_pattern: Choose, met: Met | None = None) -> list[DataFile]:
    """The files that `path` names, in order of their names: of a folder those that `in_folder` chooses, of a pattern's matches
    those that `in_pattern` does. Folders that links lead to are not entered. Broken links, circles of links and those that
    lead out of the folder are `met`; without it a link to a file is a file, wherever that lies. Raises as the store does."""
    found = _in_store(path, in_folder, in_pattern) if scheme_of(path) else _on_disk(path, in_folder, in_pattern, met)
    return sorted(found, key=lambda file: file.where)


def _on_disk(path: str, in_folder: Choose, in_pattern: Choose, met: Met | None) -> list[DataFile]:
    place = Path(path)
    if has_magic(path) and not place.exists():  # a name may have brackets
        root = next(parent for parent in place.parents if not has_magic(str(parent)))
        names = [p.relative_to(root).as_posix() for p in root.glob(str(place.relative_to(root))) if _listed(p, met)]
        choose = in_pattern
    elif place.is_dir():
        root, choose = place, in_folder
        names = list(_walked(place, met))
    else:
        return [DataFile(path, size=place.stat().st_size if place.is_file() else 0)]  # whoever reads it says what is wrong
    chosen = choose({name: PurePosixPath(name).parts for name in names})
    if met is not None:
        chosen = list(_inside(root, chosen, met))
    return [DataFile(str(root / name), name=name, size=(root / name).stat().st_size) for name in chosen]


def _listed(path: Path, met: Met | None) -> bool:
    return os.path.isfile(path) or (met is not None and path.is_symlink() and not os.path.isdir(path))


def _walked(root: Path, met: Met | None) -> Iterator[str]:
    """The names of the files below `root`, links to files among them, whatever they lead to."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(root / below) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _OF_VERSION_CONTROL:
                        waiting.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name
                elif entry.is_symlink():
                    if _listed(Path(entry.path), met):
                        yield name
                    elif met is not None:
                        _check_link(root, Path(entry.path), met)


def _check_link(root: Path, link: Path, met: Met) -> Path | None:
    """Where a link in `root` leads to, if that is in `root` and not a folder around the link itself; else it is `met`."""
    try:
        target = Path(os.path.realpath(link, strict=True))
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            raise
        reason = "circle of links" if error.errno == errno.ELOOP else "broken link"
        what = "its links form a circle" if error.errno == errno.ELOOP else "this link leads to nothing"
        met(Damaged(reason, what, where=link, remedy="mend or remove the link"))
        return None
    home = Path(os.path.realpath(root))
    if target in Path(os.path.realpath(link.parent)).parents or target == Path(os.path.realpath(link.parent)):
        met(Damaged("circle of links", "this link leads to a folder around it", where=link, remedy="remove the link"))
        return None
    # The Hugging Face hub's cache has links from snapshots/REVISION to blobs beside it.
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(target.is_relative_to(allowed) for allowed in homes):
        met(Damaged("link out of the folder", f"this link leads out of {root}", where=link, remedy=_LINK_REMEDY))
        return None
    return target


def _inside(root: Path, names: list[str], met: Met) -> Iterator[str]:
    """Without links that cannot be followed, and without those to files that are read in their own place."""
    listed = {os.path.realpath(root / name) for name in names if not (root / name).is_symlink()}
    for name in names:
        if (root / name).is_symlink():
            target = _check_link(root, root / name, met)
            if target is None or str(target) in listed or not target.is_file():
                continue
            listed.add(str(target))
        yield name


def _in_store(address: str, in_folder: Choose, in_pattern: Choose) -> list[DataFile]:
    """As on disk; a folder is what lies below its name and a slash, and `*` and `?` of a pattern stop at none."""
    address = address.rstrip("/")
    literal = address[: next((i for i, c in enumerate(address) if c in "*?["), len(address))]
    versions = remote_files(address).versions(literal)
    if literal != address:
        root, choose = f"{literal.rpartition('/')[0]}/", in_pattern
        names = [at.removeprefix(root) for at in versions if fnmatchcase(at, address)]
    elif address in versions:
        return [DataFile(address, versions[address], size=_size(versions[address]))]
    else:
        root, choose = f"{address}/", in_folder
        names = [at.removeprefix(root) for at in versions if at.startswith(root)]
    chosen = choose({name: PurePosixPath(name).parts for name in names if not name.endswith("/")})
    return [DataFile(f"{root}{n}", versions[f"{root}{n}"], n, _size(versions[f"{root}{n}"])) for n in chosen]


def _size(version: str) -> int:
    """Stores write the size in bytes before what else tells a version."""
    begins = version.split(" ")[0]
    return int(begins) if begins.isdecimal() else 0


def of_split(inside: Mapping[str, tuple[str, ...]], split: str) -> list[str]:
    """Of data files, with the parts of their names in a folder, those of `split`: those that name it (data/test.jsonl,
    train-00000-of-00002.parquet), or else those that name no other. Hidden ones are left out."""
    shown = [name for name, parts in inside.items() if not hidden(parts)]
    named = [name for name in shown if _says(inside[name], split)]
    return named or [name for name in shown if not any(_says(inside[name], other) for other in _SPLITS if other != split)]


def hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts)


def _says(parts: tuple[str, ...], split: str) -> bool:
    """Whether a file's name, or that of a folder on the way to it, begins with the split's name."""
    return any(part == split or part.startswith((f"{split}-", f"{split}.", f"{split}_")) for part in parts)
