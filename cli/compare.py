"""`lehr compare`: runs side by side."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import LOCAL, RUN, Where
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.analysis.runs import ComparedRun
    from lehr.analysis.side_by_side import SideBySide
    from lehr.artifacts.artifact import Artifact
    from lehr.evals.differences import Correction


@click.command("compare")
@click.argument("runs", type=RUN, nargs=-1, required=True)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    help="Whose scores to compare; given several times one for each run, or several of one run. [default: each run's last]",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "none"]),
    default="holm",
    show_default=True,
    help="Of the p-values, for the number of differences in the table.",
)
@click.option("--out", type=LOCAL, metavar="FILE", help="Write an HTML page too, with scores against costs and loss curves.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print the scores as Markdown.")
def compare(
    runs: tuple[Where, ...], stages: tuple[str, ...], correction: Correction, out: Path | None, as_json: bool, markdown: bool
) -> None:
    """Compare RUNS: recipes, held-out scores, and what they cost. A run is its folder, or one that `lehr eval` wrote to.

    Runs that differ in nothing but their seeds are a group: alone they are averaged for each stage, beside others for the
    last one, ± their standard deviation. Runs of different recipes are never averaged: they stand side by side, with the
    settings that differ and with differences to the first run and their 95 % confidence intervals, which are paired where
    both answered the same examples. Beside each stand its p-value, adjusted for the number of differences (Holm), and the
    minimal detectable effect: a true difference of that size is found four times in five. A * marks an adjusted p below
    0.05. Unfinished runs are compared as far as they are.

    Scores stand against the training FLOPs, tokens, energy and money of all that led to each model, with the Pareto frontier;
    --out draws that. Money needs hardware.price_per_hour in the run's recipe; of a model of somebody else nothing is known.

    \b
    Examples:
      lehr compare runs/seed7 runs/seed8 runs/seed9 --markdown
      lehr compare runs/tiny-olmo2 runs/second --stage soup
      lehr compare runs/tiny-olmo2 --stage soup --stage dpo
      lehr compare evals/one-model evals/another
      lehr compare runs/tiny-olmo2 runs/second --out compare.html
      lehr compare runs/tiny-olmo2 runs/second --json | jq .runs
    """
    from lehr.analysis.side_by_side import SideBySide
    from lehr.runtime.errors import UserError

    if len(runs) == 1 and len(stages) > 1:
        runs *= len(stages)
    if len(runs) < 2:
        remedy = "give two runs or more, or several --stage of one; `lehr show` has one's scores"
        raise UserError("one run has nothing to be compared with", remedy=remedy)
    if len(stages) > 1 and len(stages) != len(runs):
        raise UserError(f"{len(stages)} stages for {len(runs)} runs", where="--stage", remedy="give one, or one for each run")
    if as_json and markdown:
        raise UserError("--json and --markdown are two forms of one output", remedy="give one of them")
    found = SideBySide.of(_loaded(runs, stages), stages, correction, _at_address)
    if out is not None:
        _write(out, found)
    if as_json:
        say(json.dumps(found.json(), indent=1))
        return
    from lehr.cli.compared import shown

    shown(found, by_stage=not stages, markdown=markdown)


def _at_address(uri: str) -> Artifact:
    """The manifest of an artifact in a store. Raises LehrError if it is not there."""
    from lehr.cli.locate import find

    return find(uri)


def _loaded(runs: tuple[Where, ...], stages: tuple[str, ...]) -> list[ComparedRun]:
    """Under the last part of each address, or all of it where two runs share that; under the stage where all are one run."""
    from lehr.analysis.runs import NEEDED, load
    from lehr.cli.locate import public_files
    from lehr.runtime.errors import UserError

    texts = [str(run).rstrip("/") for run in runs]
    pairs = zip(texts, stages, strict=True) if len(stages) > 1 else zip(texts, texts, strict=True)
    if again := [text for (text, _), times in Counter(pairs).items() if times > 1]:
        raise UserError("a run has nothing to be compared with in itself", where=again[0], remedy="give every run once")
    folders = [public_files(run, NEEDED) for run in runs]
    shorts = [run.absolute().name if isinstance(run, Path) else run.rstrip("/").rpartition("/")[2] for run in runs]
    if len(set(texts)) < len(texts):
        names = [f"{short} {stage}" for short, stage in zip(shorts, stages, strict=True)]
        return [load(folder, name) for folder, name in zip(folders, names, strict=True)]
    names = [short if shorts.count(short) == 1 else text for short, text in zip(shorts, texts, strict=True)]
    return [load(folder, name) for folder, name in zip(folders, names, strict=True)]


def _write(out: Path, found: SideBySide) -> None:
    from lehr.artifacts.artifact import write_atomic
    from lehr.report.compared import comparison_page
    from lehr.runtime.errors import UserError

    if out.is_dir():
        raise UserError(
            "a folder, where the page is to be written", where=out, remedy="give a file's name, such as compare.html"
        )
    write_atomic(out, comparison_page(found))
    say(f"page: {out}", err=True)
