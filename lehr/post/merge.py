"""One checkpoint of several: what may be merged, by which method, and the files that go along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lehr.artifacts.ancestry import Opener, models_above, nearest_common
from lehr.artifacts.artifact import LOGS, MANIFEST, Artifact, ArtifactRef, write_atomic
from lehr.config.merging import OF_DIFFERENCES, MergeMethod
from lehr.post.merge_methods import dare, linear, slerp, ties
from lehr.post.weight_files import Method
from lehr.runtime.errors import UserError
from lehr.runtime.seeds import derive
from lehr.train.checkpointing.checkpoint import ARCHITECTURE, OPTIMIZER, TRAINING, WEIGHTS, check_head

_ONE_RUN = "merge models that were trained from one checkpoint, with its tokenizer"
# Weights are merged; of a merge no training ended, so it has neither optimiser state nor the record of an end.
_NOT_COPIED = (WEIGHTS, OPTIMIZER, TRAINING, ARCHITECTURE, MANIFEST)


def check_parents(parents: Sequence[Artifact], opener: Opener, base: Artifact | None = None) -> ArtifactRef:
    """The nearest common ancestor of the parents, or `base`, which must be one. Raises UserError unless all are language models
    of one architecture, one tokenizer and one ancestry."""
    if len(parents) < 2:
        raise UserError(f"a merge needs two parents or more, not {len(parents)}", remedy="name more in parents")
    models = [*parents, *([base] if base else [])]
    first, *others = (check_head(a.expect("checkpoint").folder, "language") for a in models)
    for artifact, said in zip(models[1:], others, strict=True):
        for key in ("architecture", "tokenizer"):
            if said[key] != first[key]:
                raise UserError(f"{key} differs from {parents[0].folder}'s", where=artifact.folder, remedy=_ONE_RUN)
    if base is not None:
        for parent in parents:
            if base.manifest.digest not in models_above(parent, opener):
                what = f"it does not come from {base.folder}, the base whose differences are merged"
                raise UserError(what, where=parent.folder, remedy="name an ancestor of all parents as base, or none")
        return base.ref
    shared = nearest_common(parents, opener)
    if shared is None:
        what = f"it has no ancestor in common with {parents[0].folder}"
        raise UserError(what, where=parents[1].folder, remedy=_ONE_RUN)
    return shared


def ancestor_of(parents: Sequence[Artifact], shared: ArtifactRef, fetched: Opener) -> Artifact:
    """The whole artifact of the ancestor `shared`. Raises UserError if it is gone, or one of the parents."""
    if any(shared.digest == parent.manifest.digest for parent in parents):
        what = f"{shared.stage} is a parent and the parents' nearest common ancestor: it has no difference to itself"
        raise UserError(what, where=shared.uri, remedy="name an earlier ancestor as base, or leave it out of parents")
    for parent in parents:
        beside = parent.folder.parent / Path(shared.uri).name
        if (beside / MANIFEST).is_file() and Artifact.open(beside, verify=False).manifest.digest == shared.digest:
            return Artifact.open(beside)
    found = fetched(shared.uri)
    if found.manifest.digest != shared.digest:
        what = f"the parents' common ancestor {shared.stage} is no longer there"
        raise UserError(what, where=shared.uri, remedy="give its place as base")
    return found


def method_of(c: MergeMethod, weights: Sequence[float], keys: Sequence[int]) -> Method:
    """The method that a configuration asks for; `keys` are the parents' own for DARE's randomness."""
    if c.method == "slerp":
        return slerp(c.place)
    if c.method == "ties":
        return ties(weights, c.kept, c.normalise, c.factor)
    if c.method in OF_DIFFERENCES:
        return dare(weights, c.dropped, keys, c.method == "dare_ties", c.normalise, c.factor)
    return linear(weights, c.normalise)


def keys_of(parents: Sequence[Artifact], seed: int) -> list[int]:
    """A key for each parent, by its content: their order decides nothing."""
    return [derive(seed, "dare", parent.manifest.digest) for parent in parents]


def copy_files(parents: Sequence[Artifact], out: Path) -> None:
    """Copy what is neither weights nor state of training, such as tokenizer and chat template, and write `model.json`: a chat
    model's if one of the parents is one. Raises UserError for a file that is not the same in all."""
    for name in _others(parents):
        contents = {a.path(name).read_bytes() if a.path(name).is_file() else None for a in parents}
        if len(contents) > 1:
            holder = next(a for a in parents if a.path(name).is_file())
            what = f"{name} is not the same in all parents of the merge"
            raise UserError(what, where=holder.folder, remedy="merge models of one tokenizer and one chat template")
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parents[0].path(name), out / name)
    said = [_model_file(parent) for parent in parents]
    first = {**said[0], "chat": any(each["chat"] for each in said)}
    for parent, each in zip(parents, said, strict=True):
        if {**each, "chat": first["chat"]} != first:
            raise UserError(f"{ARCHITECTURE} differs from {parents[0].folder}'s", where=parent.folder, remedy=_ONE_RUN)
    write_atomic(out / ARCHITECTURE, json.dumps(first, indent=1, sort_keys=True))


def _model_file(parent: Artifact) -> dict[str, Any]:
    return check_head(parent.folder, "language")


def _others(parents: Sequence[Artifact]) -> Iterator[str]:
    names = dict.fromkeys(name for parent in parents for name in parent.manifest.files)
    return (name for name in names if name not in _NOT_COPIED and not name.startswith(f"{LOGS}/"))
