"""The work of a merge stage: parents checked, weights merged, files copied, and what the artifact says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lehr.artifacts.ancestry import Opener
from lehr.artifacts.artifact import Artifact
from lehr.config.merging import OF_DIFFERENCES, MergeMethod
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.post.merge import ancestor_of, check_parents, copy_files, keys_of, method_of
from lehr.post.weight_files import merge_files
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import WEIGHTS


@dataclass(frozen=True)
class Merge:
    """What is merged, and how. `base` is None where it is to be found, or not needed."""

    parents: Sequence[Artifact]
    base: Artifact | None
    how: MergeMethod
    seed: int


def merged(work: Merge, attempt: Attempt, weights: Sequence[float]) -> dict[str, Any]:
    """Write the merged checkpoint into `attempt.out`; returns what was merged, and how. Raises UserError if the parents do not
    belong together."""
    parents, how = work.parents, work.how
    shared = check_parents(parents, opener(attempt.context), work.base)
    base = work.base
    if base is None and how.method in OF_DIFFERENCES:
        base = ancestor_of(parents, shared, lambda uri: _whole(uri, attempt.context))
    copy_files(parents, attempt.out)
    method = method_of(how, weights, keys_of(parents, work.seed))
    merge_files([a.path(WEIGHTS) for a in parents], base.path(WEIGHTS) if base else None, attempt.out / WEIGHTS, method)
    settings = {
        "ties": {"density": how.kept, "scale": how.factor},
        "slerp": {"at": how.place},
        "linear": {},
    }.get(how.method, {"drop": how.dropped, "scale": how.factor})
    weighed = {} if how.method == "slerp" else {"weights": list(weights), "normalise": how.normalise}
    return {
        "ingredients": [a.manifest.stage for a in parents],
        "merged": [a.manifest.digest for a in parents],
        "method": how.method,
        "settings": {**weighed, **settings},
        "ancestor": {"stage": shared.stage, "digest": shared.digest},
    }


def opener(context: StageContext) -> Opener:
    """Opens ancestors: by their manifests alone where this run's store has them; those of another run are fetched whole."""

    def opened(uri: str) -> Artifact:
        try:
            return context.store.described(uri)
        except UserError:
            return Artifact.open(context.fetch(uri), verify=False, uri=uri)

    return opened


def _whole(uri: str, context: StageContext) -> Artifact:
    return Artifact.open(context.fetch(uri), uri=uri)
