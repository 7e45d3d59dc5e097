"""The work of `lehr merge`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from lehr.artifacts.artifact import Artifact
from lehr.cli.locate import find, whole
from lehr.cli.places import Where
from lehr.config.merging import OF_DIFFERENCES, MergeMethod
from lehr.post.merge_work import Merge, Places, merge_into
from lehr.runtime.errors import UserError, validators_words
from lehr.tasks.run_location import local


def asked(method: str, weights: list[float], settings: Mapping[str, float | None]) -> MergeMethod:
    """The method with the settings that were given. Raises UserError for one that it has not, or of a wrong value."""
    try:
        return MergeMethod.model_validate({"method": method, "weights": weights, **settings})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what, _, remedy = validators_words(first["msg"]).replace("Input should be", "expected").partition("; ")
        option = "".join(f"--{key}: " for key in first["loc"][:1])
        raise UserError(f"{option}{what}", remedy=remedy or "correct the value") from None


def merged(parents: list[Where], base: Where | None, how: MergeMethod, seed: int, out: Path) -> Artifact:
    """The merged checkpoint in `out`. Raises UserError if the parents do not belong together."""
    if how.weights and len(how.weights) != len(parents):
        raise UserError(f"--weight: {len(how.weights)} for {len(parents)} parents", remedy="give each parent one")
    if how.method == "slerp" and len(parents) != 2:
        raise UserError(f"slerp goes from one model to another, not over {len(parents)}", remedy="name two")
    if base and how.method not in OF_DIFFERENCES:
        raise UserError(f"--base: {how.method} needs no ancestor", remedy=f"remove it, or take {' or '.join(OF_DIFFERENCES)}")
    if out.exists():  # before gigabytes are hashed
        raise UserError("this folder exists already", where=out, remedy="give --out a new name")
    found = [_checkpoint(where) for where in parents]
    ancestor = _checkpoint(base) if base else None
    return merge_into(Merge(found, ancestor, how, seed, Places(_manifest, _whole)), out)


def _checkpoint(where: Where) -> Artifact:
    artifact = whole(find(where).expect("checkpoint"))
    artifact.verify()
    if "://" not in artifact.uri:
        artifact.uri = str(artifact.folder.resolve())  # lineage names it, wherever the next command is given
    return artifact


def _whole(uri: str) -> Artifact:
    return Artifact.open(local(uri), uri=uri)


def _manifest(uri: str) -> Artifact:
    return Artifact.open(local(uri), verify=False, uri=uri)
