"""`lehr init`: a first recipe for one's own data."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say


@click.command("init")
@click.argument("folder", type=LOCAL)
@click.option(
    "--data", "files", type=LOCAL, required=True, multiple=True, metavar="FILE",
    help="A file of documents (JSON lines, Parquet, WARC, text; .gz and .zst too) or a folder of them. May be given again.",
)  # fmt: skip
def init(folder: Path, files: tuple[Path, ...]) -> None:
    """Write FOLDER/recipe.yaml for your own data: a small model, pretrained, annealed and averaged in minutes on two cores.

    The files are read first. What the filters would make of them, how much text there is and how many documents can be held
    back decide the numbers; each line says what it is for and what to try next.

    \b
    Example:
      lehr init mine --data texts.jsonl --data more.jsonl.gz
      lehr run mine/recipe.yaml
    """
    from lehr.cli.starter import write

    for line in write(folder, list(files)):
        say(line)
