"""All that an artifact was made from, each once, and what of it cannot be found."""

from __future__ import annotations

from dataclasses import dataclass, field

from lehr.artifacts.ancestry import Opener as Opener
from lehr.artifacts.ancestry import opened_beside
from lehr.artifacts.artifact import Artifact, ArtifactRef
from lehr.runtime.errors import LehrError, UserError

Key = tuple[str, str]  # digest, and the name of its folder: two stages of equal content are two that were paid for


@dataclass(frozen=True)
class Ancestors:
    """By key, ancestors first, the artifact itself last; and the references to what is gone."""

    found: dict[Key, Artifact] = field(default_factory=dict)
    gone: list[ArtifactRef] = field(default_factory=list)


def nowhere(uri: str) -> Artifact:
    """The opener of who looks on this machine alone."""
    raise UserError("not on this machine", where=uri, remedy="fetch it")


def ancestors(artifact: Artifact, opener: Opener) -> Ancestors:
    """A parent is beside its child (in a run that was moved too), at its own path, or where `opener` finds it."""
    above = Ancestors()
    waiting: list[tuple[Artifact, bool]] = [(artifact, False)]
    seen, gone = set[Key](), set[str]()
    while waiting:  # no recursion: whoever wrote the manifests may have chained thousands
        one, parents_done = waiting.pop()
        key = one.manifest.digest, one.folder.name
        if parents_done:
            above.found[key] = one
            continue
        if key in seen:
            continue
        seen.add(key)
        waiting.append((one, True))
        for ref in reversed(one.manifest.parents):
            if (parent := parent_of(one, ref, opener)) is not None:
                waiting.append((parent, False))
            elif ref.digest not in gone:
                gone.add(ref.digest)
                above.gone.append(ref)
    return above


def parent_of(child: Artifact, ref: ArtifactRef, opener: Opener) -> Artifact | None:
    """None where it is gone, or another one is in its place."""
    try:
        if (beside := opened_beside(ref, child)) is not None or "://" not in ref.uri:
            return beside
        there = opener(ref.uri)
    except LehrError:
        return None
    return there if there.manifest.digest == ref.digest else None


def is_given(artifact: Artifact) -> bool:
    """Whether a checkpoint was trained by somebody else: nothing here that could be trained on, or from, led to it."""
    m = artifact.manifest
    return m.kind == "checkpoint" and not {parent.kind for parent in m.parents} & {"checkpoint", "shards"}
