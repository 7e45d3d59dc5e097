"""Checkpoint soups: the plain mean of several anneals of one parent (OLMo 2 section 4.4; Wortsman et al. 2022)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from lehr.artifact import Artifact
from lehr.errors import UserError
from lehr.tensors import read_tensors
from lehr.train.checkpoint import ARCHITECTURE, WEIGHTS


def check_ingredients(ingredients: Sequence[Artifact]) -> None:
    """Raises UserError unless all are checkpoints of one architecture, one tokenizer and one parent.

    Weights of runs that branched before a skill formed lie in different basins: their mean has neither's skill. One
    parent is what makes a soup meaningful, so it is demanded here rather than hoped for.
    """
    if len(ingredients) < 2:
        raise UserError(
            f"a soup needs at least two ingredients, not {len(ingredients)}", remedy="give more seeds in anneals.seeds"
        )
    first = ingredients[0]
    for other in ingredients[1:]:
        other.expect("checkpoint")
        ours, theirs = (json.loads(a.path(ARCHITECTURE).read_text()) for a in (first, other))
        for key in ("architecture", "tokenizer"):
            if ours[key] != theirs[key]:
                raise UserError(
                    f"{key} differs from {first.folder.name}'s", where=other.folder, remedy="soup checkpoints of one run"
                )
        if [p.digest for p in first.manifest.parents] != [p.digest for p in other.manifest.parents]:
            raise UserError(
                f"it does not share its parents with {first.folder.name}",
                where=other.folder,
                remedy="soup anneals of one parent",
            )


def average(ingredients: Sequence[Artifact]) -> dict[str, Tensor]:
    """Mean of the weights, accumulated in fp32 tensor by tensor in the order given, cast once to the first's dtype."""
    first = read_tensors(ingredients[0].path(WEIGHTS))
    dtypes = {name: t.dtype for name, t in first.items()}
    total = {name: t.to(torch.float32) for name, t in first.items()}
    for other in ingredients[1:]:
        weights = read_tensors(other.path(WEIGHTS))
        for name, sum_ in total.items():
            sum_ += weights[name].to(torch.float32)
    return {name: (t / len(ingredients)).to(dtypes[name]) for name, t in total.items()}
