"""`lehr merge`: one checkpoint of several."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import LOCAL, RUN, Where
from lehr.cli.say import say

METHODS = ("linear", "slerp", "ties", "dare_linear", "dare_ties")  # lehr.config.merging.Method: help loads no pydantic


@click.command()
@click.argument("parents", type=RUN, nargs=-1, required=True)
@click.option("--out", type=LOCAL, required=True, help="The checkpoint's folder; it must be new.")
@click.option("--method", type=click.Choice(METHODS), default="linear", show_default=True, help="How weights are merged.")
@click.option("--weight", "weights", type=float, multiple=True, help="Once for each parent, in their order. [default: equal]")
@click.option("--base", type=RUN, help="Ancestor whose differences ties and dare merge. [default: the nearest common one]")
@click.option("--density", type=float, help="ties: share of each tensor's differences that is kept. [default: 0.2]")
@click.option("--drop", type=float, help="dare: share of the differences that is dropped at random. [default: 0.9]")
@click.option("--scale", type=float, help="ties and dare: factor of the merged difference. [default: 1]")
@click.option("--at", type=float, help="slerp: from the first parent, 0, to the second, 1. [default: 0.5]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="dare: of what is dropped.")
def merge(
    parents: tuple[Where, ...], out: Path, method: str, weights: tuple[float, ...], base: Where | None, seed: int,
    **settings: float | None,
) -> None:  # fmt: skip
    """Merge PARENTS, two or more checkpoints of one ancestry, into one; nothing is trained.

    Each is a run's folder (then it is the run's last model), a checkpoint's folder or an s3:// address. They must have one
    architecture, one tokenizer and an ancestor in common. In a recipe the step `kind: merge` does the same.

    \b
    Examples:
      lehr merge runs/code runs/math --out checkpoints/both
      lehr merge runs/code runs/math --method ties --density 0.3 --out both
    """
    from lehr.cli.merged import asked, merged
    from lehr.report.merge_words import how

    artifact = merged(list(parents), base, asked(method, list(weights), settings), seed, out)
    meta, digest = artifact.manifest.meta, artifact.manifest.digest[:12]
    say(f"{out}: {how(meta, meta['ingredients'])}; ancestor in common {meta['ancestor']['stage']}; {digest}")
