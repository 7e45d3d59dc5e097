"""What a command prints beside tables: text of users steers no terminal."""

from __future__ import annotations

import click

from lehr.text import visible


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text`, on standard error with `err`; its control characters are shown, not sent."""
    click.echo(visible(text), err=err, nl=nl)
