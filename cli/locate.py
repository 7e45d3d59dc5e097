"""From what a user types to artifacts: a run's folder and an artifact's folder are both welcome."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lehr.artifacts.artifact import MANIFEST, Artifact, Kind
from lehr.cli.places import Where
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_objects
from lehr.runtime.paths import store_address


def of_run(run: Path) -> list[Artifact]:
    """Every complete artifact of a run's folder, by name."""
    manifests = sorted((run / "artifacts").glob(f"**/{MANIFEST}"))
    return [Artifact.open(m.parent, verify=False) for m in manifests]


def _names_one(where: Where) -> bool:
    """Whether it is an artifact's place rather than a run's."""
    return "/artifacts/" in str(where) if store_address(where) else (Path(where) / MANIFEST).is_file()


def _candidates(where: Where) -> list[Artifact]:
    """The artifact at `where`, or those of the run there. Of an object store's, manifests alone: see `whole`."""
    address = store_address(where)
    if address is None:
        return [Artifact.open(where, verify=False)] if _names_one(where) else of_run(Path(where))
    root, _, name = address.partition("/artifacts/")
    found = of_run(_manifest_index(root))
    for artifact in found:
        artifact.uri = f"{root}/artifacts/{artifact.folder.name}"
    return [artifact for artifact in found if not name or artifact.folder.name == name]


def whole(artifact: Artifact, *kinds: Kind) -> Artifact:
    """`artifact` with all of its files on this machine, and those of its parents that are of these kinds."""
    if "://" not in artifact.uri:
        return artifact
    from lehr.tasks.run_location import local

    for parent in artifact.parents():
        if parent.manifest.kind in kinds:
            local(parent.uri)
    return Artifact.open(local(artifact.uri), verify=False, uri=artifact.uri)


def _missing(where: Where, what: str) -> UserError:
    if address := store_address(where):
        remedy = "give a run's address or an artifact's; `lehr run` makes one"
        return UserError(f"no {what} there", where=address, remedy=remedy)
    if not Path(where).exists():
        return UserError(
            "there is no such folder", where=where, remedy="give a run's folder or an artifact's, such as runs/tiny-olmo2"
        )
    if Path(where).suffix in (".yaml", ".yml"):
        remedy = f"give the folder of its run (`lehr run {where}`); filters alone: `lehr data try {where} FILE`"
        return UserError("this is a recipe, not a run", where=where, remedy=remedy)
    return UserError(f"no {what} here", where=where, remedy="give a run's folder or an artifact's; `lehr run` makes one")


def with_file(where: Where, name: str) -> list[Artifact]:
    """The artifact at `where`, or those of the run there, that hold a file `name`. Raises UserError if none does."""
    found = [a for a in _candidates(where) if name in a.manifest.files]
    if not found:
        raise _missing(where, f"artifact with a {name}")
    return [whole(a) for a in _of_each_stage(where, found)]


def of_kinds(where: Where, *kinds: Kind) -> list[Artifact]:
    """The artifact at `where`, or those of these kinds of the run there. Raises UserError if there is none."""
    found = [a for a in _candidates(where) if a.manifest.kind in kinds]
    if not found:
        raise _missing(where, f"artifact of {' or '.join(kinds)}")
    return [whole(a) for a in _of_each_stage(where, found)]


def _of_each_stage(where: Where, found: list[Artifact]) -> list[Artifact]:
    """One artifact of each stage, the one that `latest` means: a changed recipe leaves those of the earlier one."""
    stages: dict[str, list[Artifact]] = {}
    for artifact in found:
        stages.setdefault(artifact.manifest.stage, []).append(artifact)
    return [latest(where, those) for those in stages.values()]


def latest(where: Where, found: list[Artifact]) -> Artifact:
    """The one that a user means: the furthest along the graph of the run's recipe, and of two artifacts of one stage (the
    recipe was changed) the one that the run last published, else the newer one."""
    if len(found) == 1:
        return found[0]
    order, published = _order(where), _published(where)

    def progress(artifact: Artifact) -> tuple[int, bool, float]:
        m = artifact.manifest
        return order.get(m.stage, -1), m.digest in published, artifact.path(MANIFEST).stat().st_mtime

    return max(found, key=progress)


def _order(where: Where) -> dict[str, int]:
    """Place of each stage in the graph of the run at `where`; empty where its recipe is not there, or of another version."""
    from lehr.config import load_recipe
    from lehr.pipeline.graph import graph

    pinned = public_files(where) / "recipe.yaml"
    if not pinned.is_file():
        return {}
    try:
        return {node.name: place for place, node in enumerate(graph(load_recipe(pinned)))}
    except UserError:
        return {}


def _published(where: Where) -> set[str]:
    """Digests of the artifacts that the run's last report was made of."""
    path = public_files(where) / "lineage.json"
    try:
        return {str(row.get("digest")) for row in read_objects(path, "")} if path.is_file() else set()
    except UserError:
        return set()  # damaged: then the newer artifact counts


def public_files(where: Where, names: tuple[str, ...] = ()) -> Path:
    """A folder with the public files of the run that `where` is, or lies in, and of its artifacts the manifests and those files
    of `names` that they have."""
    if address := store_address(where):
        return _manifest_index(address.partition("/artifacts/")[0], names)
    return next((p.parent for p in Path(where).absolute().parents if p.name == "artifacts"), Path(where))


@cache
def _manifest_index(root: str, names: tuple[str, ...] = ()) -> Path:
    from lehr.tasks.run_location import RunLocation

    return RunLocation(root).manifest_index(names)


def find(where: Where, kind: Kind = "checkpoint") -> Artifact:
    """The artifact at `where`; in a run's folder, the furthest one of that kind. Raises UserError if there is none."""
    found = _candidates(where)
    if not _names_one(where):
        found = [a for a in found if a.manifest.kind == kind]
    if not found:
        raise _missing(where, f"finished {kind}")
    return latest(where, found)


def find_stage(where: Where, stage: str) -> Artifact:
    """The artifact at `where`; in a run's folder, the newest one of `stage`. Raises UserError if there is none."""
    found = _candidates(where)
    if not _names_one(where):
        there, found = found, [a for a in found if a.manifest.stage == stage]
        if there and not found:
            stages = dict.fromkeys(a.manifest.stage for a in there)
            raise UserError(f"no finished {stage!r} here", where=where, remedy=f"finished stages are: {', '.join(stages)}")
    if not found:
        raise _missing(where, f"finished {stage}")
    return latest(where, found)


def run_folder(artifact: Artifact) -> Path | None:
    """The run that an artifact lies in: the folder above its `artifacts`."""
    return next((p.parent for p in artifact.folder.absolute().parents if p.name == "artifacts"), None)
