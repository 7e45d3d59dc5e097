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


@click.command("compare")
@click.argument("runs", type=RUN, nargs=-1, required=True)
@click.option("--stage", help="Whose scores to compare. [default: the last stage of each run that has some]")
@click.option("--out", type=LOCAL, metavar="FILE", help="Write an HTML page too, with loss curves over each other.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print the scores as Markdown.")
def compare(runs: tuple[Where, ...], stage: str | None, out: Path | None, as_json: bool, markdown: bool) -> None:
    """Compare RUNS: recipes, held-out scores, time, tokens and energy.

    Runs that differ in nothing but their seeds are a group: alone they are averaged for each stage, beside others for the
    last one, ± their standard deviation. Runs of different recipes are never averaged: they stand side by side, with the
    settings that differ and with differences to the first run and their 95 % confidence intervals, which are paired where
    both answered the same examples. A * marks an interval that leaves 0 out. Unfinished runs are compared as far as they are.

    \b
    Examples:
      lehr compare runs/seed7 runs/seed8 runs/seed9 --markdown
      lehr compare runs/tiny-olmo2 runs/second --stage soup
      lehr compare runs/tiny-olmo2 runs/second --out compare.html
      lehr compare runs/tiny-olmo2 runs/second --json | jq .runs
    """
    from lehr.analysis.side_by_side import SideBySide
    from lehr.runtime.errors import UserError

    if len(runs) < 2:
        raise UserError("one run has nothing to be compared with", remedy="give two runs or more; `lehr show` has one's scores")
    if as_json and markdown:
        raise UserError("--json and --markdown are two forms of one output", remedy="give one of them")
    found = SideBySide.of(_loaded(runs), stage or "")
    if out is not None:
        _write(out, found)
    if as_json:
        say(json.dumps(found.json(), indent=1))
        return
    from lehr.cli.compared import shown

    shown(found, by_stage=stage is None, markdown=markdown)


def _loaded(runs: tuple[Where, ...]) -> list[ComparedRun]:
    """Under the last part of each address, or all of it where two runs share that."""
    from lehr.analysis.runs import NEEDED, load
    from lehr.cli.locate import public_files
    from lehr.runtime.errors import UserError

    texts = [str(run).rstrip("/") for run in runs]
    if again := [text for text, times in Counter(texts).items() if times > 1]:
        raise UserError("a run has nothing to be compared with in itself", where=again[0], remedy="give every run once")
    folders = [public_files(run, NEEDED) for run in runs]
    shorts = [run.absolute().name if isinstance(run, Path) else run.rstrip("/").rpartition("/")[2] for run in runs]
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
