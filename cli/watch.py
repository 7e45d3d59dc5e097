"""`lehr watch`: runs on a page of this machine, while they go on and afterwards."""

from __future__ import annotations

import re
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.monitoring.watch.watcher import Watcher

_URL = re.compile(r"https?://[^\s/]+(/\S*)?", re.ASCII)


@click.command("watch")
@click.argument("where", nargs=-1, metavar="[RUN or URL]...")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="Serve the page on 127.0.0.1 at this port; 0 picks a free one.",
)
@click.option("--open", "open_", is_flag=True, help="Open the page in a browser.")
@click.option("--once", type=click.Path(path_type=Path), metavar="FILE", help="Write the page as it is now to FILE, and end.")
def watch(where: tuple[str, ...], port: int, open_: bool, once: Path | None) -> None:
    """Show runs on a page in your browser, live: the panels of the Grafana dashboards, without Grafana and Prometheus.

    Loss, learning rate, gradient norm, speed and where a step's time goes, the guard and refused steps, saves, memory and
    energy, the stages with what is done and the time left, scores, the model's answers, and what became of the documents.
    Several runs lie over one another.

    RUN is a run's folder, at work, stopped, finished, or not there yet: the page says which, and goes on when the run does.
    Without any, it is the newest run under runs/, one at work before all others, and the next one as soon as it begins. URL
    is the address of an exporter alone, as `lehr run` prints it, or of a pod's behind `kubectl port-forward`: of such a run
    the page knows what it has seen itself.

    Curves, scores, answers and documents are read from the run's folder; what only a living process knows, such as the parts
    of a step, comes from its exporter, whose address the run leaves in its folder while it works. A log has no clock: on the
    time axis a stage's curve ends when its log was written last, and is as long as its steps took.

    The page is served on 127.0.0.1, to whoever has an account on this machine, and asks for nothing from elsewhere. From
    another machine: `ssh -L 8000:127.0.0.1:8000 HOST`. Ctrl-C ends it; the runs do not notice.

    \b
    Examples:
      lehr watch
      lehr watch runs/tiny-olmo2 --port 8000 --open
      lehr watch runs/seed7 runs/seed8
      kubectl port-forward POD 9405 & lehr watch http://127.0.0.1:9405/metrics
      lehr watch runs/tiny-olmo2 --once page.html
    """
    from lehr.cli.runs_found import newest
    from lehr.monitoring.watch.watcher import LOOK_SECONDS, Watcher

    places = [_place(each) for each in where]
    watcher = Watcher(places, None if places else lambda: newest(Path("runs")))
    if once is not None:
        _write(watcher, once, LOOK_SECONDS)
        return
    from lehr.monitoring.watch.serving import serve

    server, address = serve(watcher, port)
    watcher.start()
    say(f"{_named(where)}: {address}  (Ctrl-C ends this page, and no run)")
    if open_:
        webbrowser.open(address)
    try:
        threading.Event().wait()
    finally:
        watcher.stop()
        server.shutdown()


def _named(where: tuple[str, ...]) -> str:
    return ", ".join(where) if where else "the newest run in runs"


def _place(where: str) -> Path | str:
    """A folder, or an exporter's address. Raises UserError for what can be neither."""
    from lehr.runtime.errors import UserError
    from lehr.runtime.paths import store_address
    from lehr.tasks.run_location import RunLocation

    if where.startswith(("http://", "https://")):
        if not _URL.fullmatch(where):
            raise UserError(
                "this is no address of an exporter", where=where, remedy="give one as http://127.0.0.1:9405/metrics"
            )
        return where if where.split("/", 3)[3:] not in ([], [""]) else f"{where.rstrip('/')}/metrics"
    if store_address(where):
        return RunLocation(where).folder  # where a run of this machine has its logs and locks
    folder = Path(where)
    inside = next((p.parent for p in folder.absolute().parents if p.name == "artifacts"), None)
    if inside is not None and (folder / "artifact.json").is_file():
        return inside
    if folder.exists() and not folder.is_dir():
        raise UserError(
            "this is a file", where=folder, remedy="give a run's folder, such as runs/tiny-olmo2, or an exporter's address"
        )
    return folder


def _write(watcher: Watcher, file: Path, seconds: float) -> None:
    """The page as a file. A rate needs two looks at a run that is at work. Raises UserError where there is nothing to show."""
    from lehr.artifacts.artifact import write_atomic
    from lehr.monitoring.watch.page import static
    from lehr.runtime.errors import UserError, from_os_error

    watcher.look()
    if any(run.live for run in watcher.runs):
        time.sleep(seconds)
        watcher.look()
    if not watcher.runs:
        raise UserError("no runs in runs yet", remedy="`lehr run RECIPE` makes one; or name a run's folder")
    try:
        write_atomic(file, static(watcher.news(0)))
    except OSError as error:
        raise from_os_error(error, file) from error
    say(f"page: {file}")
