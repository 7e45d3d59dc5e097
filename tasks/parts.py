"""The files of a stage that prepares documents, shared out among pods (`data.pods`): one pod does what needs all of them, then
each has a share of a pass over them, and so on (lehr.data.preparation.shares). The artifact is that of a single process.

What pods do for each other lies where the run does. In a folder that is the work's own, which all of them see. In an object
store it is under parts/WORK/: each pod brings what it needs, and puts there what it made; nothing there is ever changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lehr.artifacts.artifact import ArtifactRef
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.object_store.store import ObjectStore
from lehr.pipeline.local import inputs_of
from lehr.pipeline.registry import stage
from lehr.pipeline.run import Identity
from lehr.pipeline.spec import Inputs
from lehr.runtime.errors import Bug
from lehr.runtime.ports import FencingToken
from lehr.stages.documents import DocumentsConfig, run_share, run_until
from lehr.tasks.opening import opened, run_stage_of
from lehr.tasks.refs import RunRef
from lehr.tasks.run_location import RunLocation

Refs = Mapping[str, ArtifactRef]
Wanted = Callable[[str], bool]
_PARTS = "parts"
_OF_A_FILE = re.compile(r"(\d{6,})\.")  # the number of the input file that a file is of
_NOT_SHARED = re.compile(r"\.partial$|/joins/")
_ALL: Wanted = lambda name: True


def before(run: RunRef, name: str, inputs: Refs, step: str, work: str = "") -> str:
    """Do what comes before the pass `step`. Returns the name of the stage's unfinished work, which later calls are given: to
    find it takes all documents' hashes. Raises what the stage raises."""
    config, given, note = _stage(run, name, inputs)
    work = work or Identity.of(stage("documents"), name, config, given).work
    with _folder(RunLocation(run.root), work, _ALL) as folder:
        run_until(step, config, given, folder, note)
    return work


def share(run: RunRef, name: str, inputs: Refs, step: str, work: str, part: tuple[int, int]) -> int:
    """Do `part` (number, of how many) of the pass `step`; returns how many files it had. Raises what work on one raises."""
    config, given, note = _stage(run, name, inputs)
    number, of = part

    def mine(file: str) -> bool:
        found = _OF_A_FILE.match(file.rpartition("/")[2])
        return int(found[1]) % of == number if found else not file.endswith(".npz")

    with _folder(RunLocation(run.root), work, mine) as folder:
        done = run_share(step, part, config, given, folder, note)
    note(f"{name}: {step}: share {number + 1} of {of} is done, {done} files")
    return done


def collect(run: RunRef, name: str, inputs: Refs, work: str) -> ArtifactRef:
    """The stage's artifact, of what the pods made. Raises what the stage raises."""
    place = RunLocation(run.root)
    if not place.remote:
        return run_stage_of(run, name, inputs)
    made = run_stage_of(run, name, inputs, _Stocked(place, work))
    objects = place.objects()
    objects.delete(objects.keys(f"{_PARTS}/{work}/"))
    return made


def _stage(run: RunRef, name: str, inputs: Refs) -> tuple[DocumentsConfig, Inputs, Callable[[str], None]]:
    this = opened(run)
    node, context = this.node(name), this.context()
    if not isinstance(node.config, DocumentsConfig):
        raise Bug(f"{name} prepares no documents")
    return node.config, inputs_of(node, inputs, context), context.tracker.note


@contextmanager
def _folder(place: RunLocation, work: str, wanted: Wanted) -> Iterator[Path]:
    """A folder with what pods made so far, of the files that are `wanted`; what is new in it at the end is there for others."""
    if not place.remote:
        yield LocalStore(place.root).scratch(work)
        return
    shelf = _Shelf(place, work)
    known = shelf.bring(wanted)
    try:
        yield shelf.folder
    finally:
        shelf.keep(known)  # after an error too: what is done is not done again


@dataclass(frozen=True)
class _Shelf:
    """parts/WORK/ in an object store, and `folder` of this machine with some of it."""

    place: RunLocation
    work: str

    @property
    def folder(self) -> Path:
        return self.place.folder / _PARTS / self.work

    def bring(self, wanted: Wanted) -> frozenset[str]:
        """Download what is wanted and not here; returns the names of all that is in the store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        above = f"{_PARTS}/{self.work}/"
        names = frozenset(key.removeprefix(above) for key in self.place.names(above.rstrip("/")))
        missing = [name for name in sorted(names) if wanted(name) and not (self.folder / name).is_file()]
        for name in missing:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        self.place.objects().download({above + name: self.folder / name for name in missing})
        return names

    def keep(self, known: frozenset[str]) -> None:
        """Upload what is not known. First what markers speak for, then the markers: a pod may be killed between the two."""
        files = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}
        new = {name: path for name, path in files.items() if name not in known and not _NOT_SHARED.search(name)}
        marks = {name for name in new if name.endswith((".json", ".written", ".npz")) and "/index/" not in name}
        for names in (new.keys() - marks, marks):
            self.place.objects().upload({f"{_PARTS}/{self.work}/{name}": new[name] for name in sorted(names)})


class _Stocked(ObjectStore):
    """The run's store, whose scratch folder begins with what pods made."""

    def __init__(self, place: RunLocation, work: str) -> None:
        super().__init__(place.objects(), place.folder)
        self._shelf = _Shelf(place, work)

    def scratch(self, name: str, fencing: FencingToken) -> Path:
        folder = super().scratch(name, fencing)
        if name == self._shelf.work:
            self._shelf.bring(_ALL)
            for path in self._shelf.folder.iterdir():
                path.rename(folder / path.name)
        return folder
