"""What a command prints beside tables: text of users steers no terminal."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from lehr.runtime.text import visible


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text`, on standard error with `err`; its control characters are shown, not sent."""
    click.echo(visible(text), err=err, nl=nl)


def this_command() -> str:
    """How this `lehr` is called, so that what is printed works when pasted: `.venv/bin/lehr` where no PATH leads to it."""
    typed = Path(sys.argv[0])
    on_path = shutil.which("lehr")
    if typed.name != "lehr" or (on_path and Path(on_path).resolve() == typed.resolve()):
        return "lehr"
    return shlex.quote(str(typed))
