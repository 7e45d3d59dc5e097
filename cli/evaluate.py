"""`lehr eval`: score a model that exists."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import LOCAL, RUN, Where
from lehr.cli.say import say


@click.command("eval")
@click.argument("target", type=RUN)
@click.option(
    "--tasks", required=True, metavar="TASK,...", multiple=True, help="What to score; a wrong name lists those that there are."
)
@click.option("--limit", type=click.IntRange(min=1), help="Examples of each task and split. [default: the run's, else 200]")
@click.option(
    "--split",
    "splits",
    type=click.Choice(["held_out", "dev"]),
    multiple=True,
    default=("held_out",),
    show_default=True,
    help="May be given twice, for both.",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Longest answer. [default: the run's, else 56]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the examples and of sampling. [default: the run's, else 0]")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Ranks. [default: the run's where this machine has as many cores]"
)
@click.option("--documents", type=RUN, help="Run that held documents back. [default: that of TARGET's ancestors]")
@click.option("--pairs", type=RUN, help="Run with preference pairs. [default: as for --documents]")
@click.option("--out", type=LOCAL, help="Folder for the scores. [default: evals in the run, else evals/NAME]")
def eval_(
    target: Where,
    tasks: tuple[str, ...],
    limit: int | None,
    splits: tuple[str, ...],
    max_new_tokens: int | None,
    seed: int | None,
    processes: int | None,
    documents: Where | None,
    pairs: Where | None,
    out: Path | None,
) -> None:
    """Score TARGET with tasks of your choice; nothing is trained.

    TARGET is a run's folder (then it is the run's last model), any checkpoint's folder, or a Hugging Face folder. With a
    run's settings the scores are those that the run itself would have given. They go to OUT/scores.json; what was scored
    before with the same settings is found again. Tasks of running text (prose, continuation_cf) need documents that were
    held back: of the model's own run, or for a model of somebody else of the run that --documents names.

    \b
    Examples:
      lehr eval runs/tiny-olmo2 --tasks arithmetic,chat_math
      lehr eval runs/tiny-olmo2/model --tasks prose --documents runs/tiny-olmo2
    """
    from lehr.cli.contamination import contamination
    from lehr.cli.scoring import Asked, scored
    from lehr.cli.tables import page
    from lehr.monitoring.score_table import record_table

    names = [name for group in tasks for name in group.split(",") if name]
    asked = Asked(names, limit, list(splits), max_new_tokens, seed, processes, documents, pairs)
    records, written = scored(target, asked, out)
    page(record_table(records))
    for line in contamination(records):
        say(line, err=True)
    say(f"scores: {written}", err=True)
