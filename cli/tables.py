"""Tables on a terminal and in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lehr.monitoring.screen import Screen

WIDE = 10_000  # columns of what is no terminal: nothing is cut there


def text(words: object, style: str = "") -> Text:
    """What somebody else wrote, as text and nothing more."""
    return Text(str(words), style)


def console() -> Screen:
    """Writes to standard output; what goes into a file or a pipe is not cut to the width of a terminal."""
    width = None if sys.stdout.isatty() else WIDE
    return Screen(width=width, soft_wrap=width is not None)


def page(*parts: RenderableType) -> None:
    """Print each, an empty line between two."""
    out = console()
    for number, part in enumerate(parts):
        if number:
            out.print()
        out.print(part)


def plain_table(title: str, headings: Sequence[str], right: Sequence[str] = ()) -> Table:
    """Without frames; `right` are the headings of numbers."""
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table
