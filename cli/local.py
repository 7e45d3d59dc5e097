"""Run a recipe's graph here, in this process, with its trackers around it."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click

from lehr.artifact import sha256_text
from lehr.config import Recipe
from lehr.pipeline.explain import manifests
from lehr.pipeline.local import run_graph
from lehr.stop import listening
from tasks.lock import held
from tasks.opening import check_enough, open_run, publish
from tasks.place import Place
from tasks.session import open_session


def run_recipe(recipe: Recipe, out: str, metrics_port: int, mlflow: bool) -> int:
    """Start or continue the run in `out`. Returns 0; raises what the stages raise."""
    place = Place(out)
    place.check()
    with held(place.folder, place.root), _own_temporary_folder(place.folder), listening():
        os.environ["LEHR_COMMAND"] = shlex.join(["lehr", *sys.argv[1:]])
        this = open_run(recipe, out)
        names = [node.name for node in this.nodes]
        session = open_session(recipe, names, place.folder, this.run.key, metrics_port=metrics_port, mlflow=mlflow)
        try:
            earlier = [] if place.remote else manifests(place.folder)
            context = session.context(this.run)
            publish(this.run, run_graph(this.nodes, context, earlier, partial(check_enough, this, context)).refs)
        finally:
            session.close()
        click.echo(f"report: {place.shown('report.html')}\nmodel:  {place.shown('model')}\ntalk:   lehr chat {out}")
    return 0


@contextmanager
def _own_temporary_folder(root: Path) -> Iterator[None]:
    """Ranks leave sockets in TMPDIR when they are killed: give them a folder that the next run sweeps.

    It lies in the system's own temporary folder, not in the run's: a rank's socket has 107 bytes for its path.
    """
    place = Path(tempfile.gettempdir()) / f"lehr-{os.getuid()}-{sha256_text(str(root))[:12]}"
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
        atexit.register(_remove_if_empty, place)  # what lies there is swept up by its owners at exit


def _remove_if_empty(place: Path) -> None:
    with suppress(OSError):  # not empty: a rank's last file goes later, the folder with the next run
        place.rmdir()
