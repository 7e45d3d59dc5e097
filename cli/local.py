"""Run the Flyte workflow here, in this process, with its spectators around it."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from lehr.artifact import sha256_text
from lehr.stop import listening
from tasks.lock import held
from tasks.place import Place


def run_recipe(recipe: Path, out: str, overrides: Sequence[str], metrics_port: int, mlflow: bool) -> int:
    """Start or continue the run in `out`. Returns 0; raises what the stages raise."""
    place = Place(out)
    place.check()
    root = place.folder
    with held(root, place.root), _own_temporary_folder(root), listening():
        os.environ["LEHR_COMMAND"] = shlex.join(["lehr", *sys.argv[1:]])
        os.environ.setdefault("FLYTE_SDK_LOGGING_LEVEL", "40")  # flytekit's warnings would tear the display
        from lehr.config import load_recipe
        from tasks.run import run_key
        from tasks.session import open_session
        from workflows.pretrain_to_eval import pretrain_to_eval

        loaded = load_recipe(recipe, overrides)
        session = open_session(loaded, root, run_key(loaded, place.root), metrics_port=metrics_port, mlflow=mlflow)
        try:
            report = pretrain_to_eval(recipe=str(recipe), out=place.root, overrides=list(overrides))
        finally:
            session.close()
        click.echo(f"report: {report}\nmodel:  {place.shown('model')}\ntalk:   lehr chat {out}")
    return 0


@contextmanager
def _own_temporary_folder(root: Path) -> Iterator[None]:
    """flytekit leaves folders in TMPDIR at every import: give it one that goes away, and sweep those of killed runs.

    It lies in the system's own temporary folder, not in the run's: a rank's socket has 107 bytes for its path.
    """
    place = Path(tempfile.gettempdir()) / f"lehr-{sha256_text(str(root))[:12]}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    before, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), str(place)
    tempfile.tempdir = None
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None
        for left in place.glob("*lyte*"):  # what else lies here is swept up by its owners at exit
            shutil.rmtree(left, ignore_errors=True)
        atexit.register(_remove_if_empty, place)


def _remove_if_empty(place: Path) -> None:
    with suppress(OSError):  # not empty: a rank's last file goes later, the folder with the next run
        place.rmdir()
