"""Checkpoint soups: the plain mean of several anneals of one parent (OLMo 2 section 4.5; Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lehr.artifacts.artifact import Artifact
from lehr.data.template_file import template_in
from lehr.post.merge_methods import linear
from lehr.post.weight_files import merge_files
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import WEIGHTS, described


def check_ingredients(ingredients: Sequence[Artifact]) -> None:
    """Raises UserError unless all are checkpoints of one architecture, one tokenizer, one chat template and one parent.

    Weights of runs that branched before a skill was learned lie in different basins of the loss, and their mean may have the
    skills of none. Soups therefore require a common parent.
    """
    if len(ingredients) < 2:
        raise UserError(
            f"a soup needs at least two ingredients, not {len(ingredients)}", remedy="give more seeds in anneals.seeds"
        )
    first = ingredients[0]
    for other in ingredients[1:]:
        other.expect("checkpoint")
        ours, theirs = (described(a.folder) for a in (first, other))
        for key in ("architecture", "tokenizer"):
            if ours[key] != theirs[key]:
                raise UserError(
                    f"{key} differs from {first.folder.name}'s", where=other.folder, remedy="soup checkpoints of one run"
                )
        if template_in(first.folder) != template_in(other.folder):
            what = f"its chat template differs from {first.folder.name}'s"
            raise UserError(what, where=other.folder, remedy="soup checkpoints of one run")
        if [p.digest for p in first.manifest.parents] != [p.digest for p in other.manifest.parents]:
            raise UserError(
                f"it does not share its parents with {first.folder.name}",
                where=other.folder,
                remedy="soup anneals of one parent",
            )


def average(ingredients: Sequence[Artifact], out: Path) -> None:
    """Write the mean of the weights to the file `out`: summed in fp32 in the order given, then cast once to the weights' dtype.

    Files are read in blocks, so memory does not grow with the model. Raises UserError for a damaged file, for weights that are
    not finite, and if names, shapes or dtypes differ from the first ingredient's.
    """
    merge_files([a.path(WEIGHTS) for a in ingredients], None, out, linear([1.0] * len(ingredients)))
