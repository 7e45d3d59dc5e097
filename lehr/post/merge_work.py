"""The work of a merge stage: parents checked, weights merged, files copied, and what the artifact says of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.artifacts.ancestry import Opener
from lehr.artifacts.artifact import Artifact, Cost, canonical, sha256_text
from lehr.artifacts.fingerprint import code_version
from lehr.config.merging import OF_DIFFERENCES, MergeMethod
from lehr.pipeline.attempt import StageContext
from lehr.post.merge import ancestor_of, check_parents, copy_files, keys_of, method_of
from lehr.post.weight_files import merge_files
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import WEIGHTS


@dataclass(frozen=True)
class Places:
    """How an ancestor is opened: by its manifest, and with all its files."""

    manifest: Opener
    whole: Opener

    @classmethod
    def of(cls, context: StageContext) -> Places:
        """By manifests alone where this run's store has them; ancestors of another run are fetched."""

        def whole(uri: str) -> Artifact:
            return Artifact.open(context.fetch(uri), uri=uri)

        def manifest(uri: str) -> Artifact:
            try:
                return context.store.described(uri)
            except UserError:
                return Artifact.open(context.fetch(uri), verify=False, uri=uri)

        return cls(manifest, whole)


@dataclass(frozen=True)
class Merge:
    """What is merged, and how. `base` is None where it is to be found, or not needed."""

    parents: Sequence[Artifact]
    base: Artifact | None
    how: MergeMethod
    seed: int
    places: Places


def merged(work: Merge, out: Path, weights: Sequence[float]) -> dict[str, Any]:
    """Write the merged checkpoint into `out`, without a manifest; returns what was merged, and how. Raises UserError if the
    parents do not belong together."""
    parents, how = work.parents, work.how
    shared = check_parents(parents, work.places.manifest, work.base)
    base = work.base
    if base is None and how.method in OF_DIFFERENCES:
        base = ancestor_of(parents, shared, work.places.whole)
    copy_files(parents, out)
    method = method_of(how, weights, keys_of(parents, work.seed))
    merge_files([a.path(WEIGHTS) for a in parents], base.path(WEIGHTS) if base else None, out / WEIGHTS, method)
    return {
        "ingredients": [a.manifest.stage for a in parents],
        "merged": [a.manifest.digest for a in parents],
        "method": how.method,
        "settings": _settings(how, weights),
        "ancestor": {"stage": shared.stage, "digest": shared.digest},
    }


def _settings(how: MergeMethod, weights: Sequence[float]) -> dict[str, Any]:
    """Those that the method has, with the values that they had."""
    if how.method == "slerp":
        return {"at": how.place}
    weighed = {"weights": list(weights), "normalise": how.normalise}
    if how.method == "linear":
        return weighed
    own = {"density": how.kept} if how.method == "ties" else {"drop": how.dropped}
    return {**weighed, **own, "scale": how.factor}


def merge_into(work: Merge, out: Path) -> Artifact:
    """A merge as an artifact in the new folder `out`, complete or absent. Raises UserError if it is there, or if the parents do
    not belong together."""
    if out.exists():
        raise UserError("this folder exists already", where=out, remedy="name a new one")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    began = time.monotonic()
    try:
        meta = merged(work, beside, work.how.weights or [1.0] * len(work.parents))
        refs = [artifact.ref for artifact in [*work.parents, *([work.base] if work.base else [])]]
        config = {"how": work.how.model_dump(mode="json"), "seed": work.seed}
        Artifact.seal(
            beside, kind="checkpoint", stage="merge", fingerprint=sha256_text(canonical([config, [r.digest for r in refs]])),
            parents=refs, config=config, code=code_version(merge_into), meta=meta,
            cost=Cost(seconds=time.monotonic() - began), stage_kind="merge",
        )  # fmt: skip
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Artifact.open(out)
