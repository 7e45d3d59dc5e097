"""Tables on a terminal and in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDE = 10_000  # columns of what is no terminal: nothing is cut there


def text(words: object, style: str = "") -> Text:
    """What somebody else wrote, as text and nothing more."""
    return Text(printable(words), style)


def printable(words: object) -> str:
    """Control characters, which a terminal would obey, are spelled out; lines end where they did."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(words))


def console() -> Console:
    """Writes to standard output; what goes into a file or a pipe is not cut to the width of a terminal."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(highlight=False, markup=False, emoji=False, width=width, soft_wrap=width is not None)


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
