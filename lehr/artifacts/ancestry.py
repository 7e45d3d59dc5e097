"""The models that checkpoints come from, by their manifests: parents, transitively."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lehr.artifacts.artifact import MANIFEST, Artifact, ArtifactRef
from lehr.runtime.errors import UserError

# The artifact at an address, with or without its files. Raises UserError if there is none.
Opener = Callable[[str], Artifact]


def models_above(artifact: Artifact, opener: Opener) -> dict[str, ArtifactRef]:
    """By digest: every checkpoint that `artifact` comes from, ancestors first, itself last. Behind one that is gone nothing is
    known."""
    found: dict[str, ArtifactRef] = {}

    def visit(ref: ArtifactRef, own: Artifact | None) -> None:
        if ref.digest in found or ref.kind != "checkpoint":
            return
        if own is not None:
            for parent in own.manifest.parents:
                visit(parent, _opened(parent, own, opener))
        found[ref.digest] = ref

    visit(artifact.ref, artifact)
    return found


def nearest_common(artifacts: Sequence[Artifact], opener: Opener) -> ArtifactRef | None:
    """The checkpoint that all of `artifacts` are, or come from, below which there is no other such; None if there is none."""
    first, *others = (models_above(artifact, opener) for artifact in artifacts)
    shared = [ref for digest, ref in first.items() if all(digest in other for other in others)]
    return shared[-1] if shared else None


def opened_beside(ref: ArtifactRef, child: Artifact) -> Artifact | None:
    """The artifact `ref` beside `child`, where it is in a run that was moved or copied too, or at its place on this machine."""
    for place in (child.folder.parent / Path(ref.uri).name, Path(ref.uri)):
        if (place / MANIFEST).is_file():
            found = Artifact.open(place, verify=False, uri=ref.uri if "://" in ref.uri else "")
            if found.manifest.digest == ref.digest:
                return found
    return None


def _opened(ref: ArtifactRef, child: Artifact, opener: Opener) -> Artifact | None:
    if ref.kind != "checkpoint":
        return None
    if (found := opened_beside(ref, child)) is not None:
        return found
    try:
        there = opener(ref.uri)
    except UserError:
        return None
    return there if there.manifest.digest == ref.digest else None
