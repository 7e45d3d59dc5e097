"""`lehr lookup`: from steps to documents and back."""

from __future__ import annotations

import json

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say


@click.command("lookup")
@click.argument("artifact", type=RUN)
@click.option("--stage", default="stage1", show_default=True, help="Pretraining stage, where ARTIFACT is a run's folder.")
@click.option("--step", type=click.IntRange(min=0), help="Show the documents of this step, counted from 0.")
@click.option(
    "--document", metavar="SOURCE:ID", help="Show the steps that saw this document: all of that id, with their chunks."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lookup(artifact: Where, stage: str, step: int | None, document: str | None, as_json: bool) -> None:
    """Which documents were in a training step, and at which steps was a document seen.

    ARTIFACT is a pretrained checkpoint's folder, or a run's folder with --stage. Both directions are computed from the
    seed: nothing is logged while training, and the answer is exact for any step of any run.

    \b
    Examples:
      lehr lookup runs/tiny-olmo2 --step 100
      lehr lookup runs/tiny-olmo2 --document speeches:speeches/1798_john_adams_f
    """
    from lehr.cli.locate import find_stage, whole
    from lehr.cli.tables import page, plain_table, text
    from lehr.runtime.errors import UserError

    if (step is None) == (document is None):
        raise UserError("one question at a time", remedy="give either --step or --document")
    source, colon, name = (document or "").partition(":")
    if document is not None and not (source and colon and name):
        raise UserError(f"--document {document!r} is not SOURCE:ID", remedy="take both from `lehr lookup --step`")
    model = whole(find_stage(artifact, stage), "shards", "tokenizer")
    from lehr.analysis.provenance import Lookup  # torch: after all that can be said without it

    order = Lookup(model)
    if step is None:
        steps = order.document(source, name)
        seen = ", ".join(map(str, steps)) or "none"
        shown = f"{document}: seen in {len(steps)} of {order.phase.steps} steps: {seen}"
        say(json.dumps(steps)) if as_json else page(text(shown))
        return
    rows = order.step(step)
    if as_json:
        say(json.dumps([vars(row) for row in rows], indent=1))
        return
    table = plain_table("", ("row", "source", "first token", "documents"), right=("row", "first token"))
    table.title = None
    for number, row in enumerate(rows):
        table.add_row(str(number), text(row.source), f"{row.first_token:,}", text(", ".join(row.documents)))
    page(table)
    if order.was_left_out(step):
        page(f"step {step} was left out by a rollback: nothing was learned from these")
