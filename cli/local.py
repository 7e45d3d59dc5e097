"""Run a recipe's graph here, in this process, with its trackers around it."""

from __future__ import annotations

import fcntl
import multiprocessing.util
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from lehr.cli.say import say, this_command
from lehr.config import Recipe
from lehr.pipeline.explain import manifests
from lehr.pipeline.local import run_graph
from lehr.runtime.preemption import listening
from lehr.tasks.lock import held
from lehr.tasks.opening import check_enough, open_run, publish
from lehr.tasks.run_location import RunLocation
from lehr.tasks.session import open_session


def run_recipe(recipe: Recipe, out: str, metrics_port: int, mlflow: bool, source: Path) -> int:
    """Start or continue the run of `recipe`, which was named `source`, in `out`. Returns 0; raises what the stages raise."""
    place = RunLocation(out)
    place.check()
    with held(place.folder, place.root), _own_temporary_folder(), listening():
        os.environ["LEHR_COMMAND"] = shlex.join(["lehr", *sys.argv[1:]])
        this = open_run(recipe, out, source)
        names = [node.name for node in this.nodes]
        session = open_session(this.run, recipe, names, metrics_port=metrics_port, mlflow=mlflow)
        try:
            earlier = [] if place.remote else manifests(place.folder)
            context = session.context(this.run)
            publish(this.run, run_graph(this.nodes, context, earlier, partial(check_enough, this, context)).refs)
        finally:
            session.close()
        say(f"report: {place.shown('report.html')}\nmodel:  {place.shown('model')}")
        say(f"talk:   {this_command()} chat {shlex.quote(out)}")
    return 0


@contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """Ranks leave sockets in TMPDIR when they are killed: give them a folder that goes with this process, or else with
    this user's next run.

    It lies in the system's own temporary folder, not in the run's: a rank's socket has 107 bytes for its path.
    """
    mine = f"lehr-run-{os.getuid()}-"  # no older Lehr names its own so: those hold no lock, and may be at work
    _sweep(Path(tempfile.gettempdir()), mine)
    place = tempfile.mkdtemp(prefix=mine)  # a name of its own: nobody else can have taken it
    alive = os.open(place, os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    multiprocessing.util.Finalize(None, shutil.rmtree, (place, True), exitpriority=-1000)  # after all that clean up in it
    before, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), place
    tempfile.tempdir = None
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None


def _sweep(temporary: Path, prefix: str) -> None:
    """Remove what runs of this user left that were killed: a folder's lock dies with its run."""
    for place in temporary.glob(f"{prefix}*"):
        with suppress(OSError):
            number = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(number).st_uid == os.getuid():
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(number)
