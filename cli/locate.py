"""From what a user types to artifacts: a run's folder and an artifact's folder are both welcome."""

from __future__ import annotations

from pathlib import Path

from lehr.artifact import MANIFEST, Artifact, Kind
from lehr.errors import UserError

# Where a run ends: the last of these that it has is the model a user means.
STAGE_ORDER = ("stage1", "ramp", "anneal", "soup", "sft", "dpo", "rlvr")


def of_run(run: Path) -> list[Artifact]:
    """Every complete artifact of a run's folder, by name."""
    manifests = sorted((run / "artifacts").glob(f"**/{MANIFEST}"))
    return [Artifact.open(m.parent, verify=False) for m in manifests]


def _missing(where: Path, what: str) -> UserError:
    if not where.exists():
        return UserError(
            "there is no such folder", where=where, remedy="give a run's folder or an artifact's, such as runs/tiny-olmo2"
        )
    return UserError(f"no {what} here", where=where, remedy="give a run's folder or an artifact's; `lehr run` makes one")


def with_file(where: Path, name: str) -> list[Artifact]:
    """The artifact at `where`, or those of the run there, that hold a file `name`. Raises UserError if none does."""
    given = [Artifact.open(where, verify=False)] if (where / MANIFEST).is_file() else of_run(where)
    found = [a for a in given if name in a.manifest.files]
    if not found:
        raise _missing(where, f"artifact with a {name}")
    return found


def _progress(artifact: Artifact) -> tuple[int, float]:
    """Later stages are further; of two artifacts of one stage (the recipe was changed) the newer one is."""
    stage = artifact.manifest.stage
    rank = next((i for i, known in enumerate(STAGE_ORDER) if stage == known or stage.startswith(f"{known}-")), -1)
    return rank, artifact.path(MANIFEST).stat().st_mtime


def find(where: Path, kind: Kind = "checkpoint") -> Artifact:
    """The artifact at `where`; in a run's folder, the furthest one of that kind. Raises UserError if there is none."""
    if (where / MANIFEST).is_file():
        return Artifact.open(where, verify=False)
    found = [a for a in of_run(where) if a.manifest.kind == kind]
    if not found:
        raise _missing(where, f"finished {kind}")
    return max(found, key=_progress)


def find_stage(where: Path, stage: str) -> Artifact:
    """The artifact at `where`; in a run's folder, the newest one of `stage`. Raises UserError if there is none."""
    if (where / MANIFEST).is_file():
        return Artifact.open(where, verify=False)
    found = [a for a in of_run(where) if a.manifest.stage == stage]
    if not found:
        raise _missing(where, f"finished {stage}")
    return max(found, key=_progress)


def run_folder(artifact: Artifact) -> Path | None:
    """The run that an artifact lies in: the folder above its `artifacts`."""
    return next((p.parent for p in artifact.folder.absolute().parents if p.name == "artifacts"), None)
