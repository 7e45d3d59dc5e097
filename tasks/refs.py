"""What tasks pass to each other besides artifacts."""

from __future__ import annotations

from lehr.artifact import Artifact, ArtifactRef
from lehr.config.base import Config
from lehr.config.recipe import Recipe
from tasks.place import local


class RunRef(Config):
    """One run: the resolved recipe, where its artifacts live, and how it was called."""

    recipe: Recipe
    root: str
    key: str  # names the run in MLflow across restarts
    command: str = ""


def opened(ref: ArtifactRef) -> Artifact:
    """The artifact behind a reference. Its files were verified when its stage ended or found it."""
    return Artifact.open(local(ref.uri), verify=False, uri=ref.uri)
