"""Places that a user names on the command line: on this machine, or in an object store where a command takes those."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.paths import folder, store_address


class RunPath(click.ParamType[Path]):
    """A run or an artifact: a folder, or an s3:// address. Raises UserError for an address of another kind."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        store_address(path := Path(str(value)))
        return path


class LocalPath(click.ParamType[Path]):
    """A file or folder of this machine. Raises UserError for an address: it would become a folder named `s3:`."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return folder(Path(str(value)))


RUN, LOCAL = RunPath(), LocalPath()
