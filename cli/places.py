"""Places that a user names on the command line: on this machine, or in an object store where a command takes those."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.runtime.paths import folder, store_address


class RunPath(click.ParamType["Path | str"]):
    """A run or an artifact: a folder as a Path, or an s3:// address as its text, for `a//b` is another key than `a/b`, and a
    Path knows one of them. Raises UserError for an address of another kind."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        return store_address(str(value)) or Path(str(value))


class LocalPath(click.ParamType[Path]):
    """A file or folder of this machine. Raises UserError for an address: it would become a folder named `s3:`."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return folder(Path(str(value)))


Where = Path | str  # as RunPath gives it
RUN, LOCAL = RunPath(), LocalPath()
