"""One checkpoint of several: what may be merged, by which method, and the files that go along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lehr.artifacts.ancestry import Opener, models_above, nearest_common, opened_beside
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
    of one architecture, one tokenizer, one chat template and one ancestry."""
    if len(parents) < 2:
        raise UserError(f"a merge needs two parents or more, not {len(parents)}", remedy="name more in parents")
    for number, parent in enumerate(parents):
        if parent.manifest.digest in {other.manifest.digest for other in parents[:number]}:
            raise UserError("this parent stands twice", where=parent.folder, remedy="name it once, with a larger weight")
    said = [check_head(parent.expect("checkpoint").folder, "language") for parent in parents]
    for parent, own in zip(parents[1:], said[1:], strict=True):
        if (key := _differing(own, said[0])) is not None:
            raise UserError(f"{key} differs from {parents[0].folder}'s", where=parent.folder, remedy=_ONE_RUN)
    _check_files(parents)
    if base is None:
        return _shared_by(parents, opener)
    _check_base(base, said[0])
    for parent in parents:
        if base.manifest.digest not in models_above(parent, opener):
            what = f"it does not come from {base.folder}, the base whose differences are merged"
            raise UserError(what, where=parent.folder, remedy="name an ancestor of all parents as base, or none")
    return base.ref


def _shared_by(parents: Sequence[Artifact], opener: Opener) -> ArtifactRef:
    shared = nearest_common(parents, opener)
    if shared is None:
        first, *others = parents
        alien = next((other for other in others if nearest_common([first, other], opener) is None), others[-1])
        raise UserError(f"it has no ancestor in common with {first.folder}", where=alien.folder, remedy=_ONE_RUN)
    return shared


def _check_base(base: Artifact, said: Mapping[str, Any]) -> None:
    """Raises UserError unless `base` has the tensors of the parents, whose `model.json` is `said`. It lacks rows, for example,
    if each parent learned a chat template with tokens of its own after it."""
    own = check_head(base.expect("checkpoint").folder, "language")
    for key in ("architecture", "tokenizer"):
        if own[key] != said[key]:
            what = f"{key} of this ancestor differs from that of its children, so there is no difference to merge"
            remedy = "name as base one that has theirs, such as an SFT before both, or merge by linear or slerp"
            raise UserError(what, where=base.folder, remedy=remedy)


def ancestor_of(parents: Sequence[Artifact], shared: ArtifactRef, fetched: Opener) -> Artifact:
    """The whole artifact of the ancestor `shared`. Raises UserError if it is gone, one of the parents, or of other tensors."""
    found = _found_ancestor(parents, shared, fetched)
    _check_base(found, check_head(parents[0].folder, "language"))
    return found


def _found_ancestor(parents: Sequence[Artifact], shared: ArtifactRef, fetched: Opener) -> Artifact:
    if any(shared.digest == parent.manifest.digest for parent in parents):
        what = f"{shared.stage} is a parent and the parents' nearest common ancestor: it has no difference to itself"
        raise UserError(what, where=shared.uri, remedy="name an earlier ancestor as base, or leave it out of parents")
    for parent in parents:
        if (beside := opened_beside(shared, parent)) is not None:
            beside.verify()
            return beside
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
    model's if one of the parents is one. The parents are those that `check_parents` has seen."""
    for name in _others(parents):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parents[0].path(name), out / name)
    said = {**check_head(parents[0].folder, "language"), "chat": chats(parents)}
    write_atomic(out / ARCHITECTURE, json.dumps(said, indent=1, sort_keys=True))


def chats(parents: Sequence[Artifact]) -> bool:
    """Whether their merge is a chat model: if one of them is."""
    return any(check_head(parent.folder, "language")["chat"] for parent in parents)


def _differing(own: Mapping[str, Any], first: Mapping[str, Any]) -> str | None:
    """The first key of two `model.json` with different values; models that chat and models that do not may be merged."""
    return next((key for key in sorted({*own, *first} - {"chat"}) if own.get(key) != first.get(key)), None)


def _check_files(parents: Sequence[Artifact]) -> None:
    """By the manifests' hashes. Raises UserError for a file that is not the same in all."""
    for name in _others(parents):
        records = [parent.manifest.files.get(name) for parent in parents]
        if len({record.sha256 if record else "" for record in records}) > 1:
            holder = next(parent for parent, record in zip(parents, records, strict=True) if record)
            what = f"{name} is not the same in all parents of the merge"
            raise UserError(what, where=holder.folder, remedy="merge models of one tokenizer and one chat template")


def _others(parents: Sequence[Artifact]) -> Iterator[str]:
    names = dict.fromkeys(name for parent in parents for name in parent.manifest.files)
    return (name for name in names if name not in _NOT_COPIED and not name.startswith(f"{LOGS}/"))
