"""`lehr mlflow`: where a run's record in MLflow is, and what of it waits to be sent."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.monitoring.mlflow_delivery import Delivery
    from lehr.tasks.run_location import RunLocation

_TRIES = 3  # without anything that arrives


@click.command("mlflow")
@click.argument("run", type=RUN)
@click.option("--send", is_flag=True, help="Send what MLflow has not got yet: its server was down, or the run was killed.")
def mlflow_(run: Where, send: bool) -> None:
    """Print the address of RUN's MLflow file, as MLflow's server and client take it.

    MLflow notes whole paths. Those of a run that was moved or copied are put right first, so that its artifacts are found
    where the run is now. The server is no part of Lehr: `pip install mlflow` into an environment of its own.

    What could not be sent waits in RUN/mlflow-pending. The next `lehr run` there sends it, and so does --send: to the server
    that MLFLOW_TRACKING_URI names, or into the run's own file.

    \b
    Examples:
      lehr mlflow runs/tiny-olmo2
      lehr mlflow runs/tiny-olmo2 --send
      mlflow server --backend-store-uri "$(lehr mlflow runs/tiny-olmo2)"
      export MLFLOW_TRACKING_URI="$(lehr mlflow runs/tiny-olmo2)"
    """
    from lehr.tasks.run_location import RunLocation

    place = RunLocation(run)
    if send:
        _send(place)
    else:
        _show(place.folder)


def _show(folder: Path) -> None:
    from lehr.monitoring.mlflow_moved import put_right, tracking_uri_of
    from lehr.monitoring.mlflow_schema import FILE_NAME
    from lehr.runtime.errors import UserError

    file = folder / FILE_NAME
    if not file.is_file():
        remedy = "give the folder of a run; one that ran with --no-mlflow, or with MLFLOW_TRACKING_URI, has none"
        raise UserError(f"there is no {FILE_NAME} here", where=folder, remedy=remedy)
    try:
        before = put_right(file)
    except sqlite3.Error as error:
        remedy = "make the folder writable, end what holds the file, or copy the run again"
        raise UserError(f"its paths cannot be put right: {error}", where=file, remedy=remedy) from error
    for old in before:
        say(f"it was made in {old}; its artifacts are found here now", err=True)
    say(tracking_uri_of(folder))


def _send(place: RunLocation) -> None:
    """Send what waits, to the store that the environment names; what was meant for another one too, because whoever asks for it
    has just said where to."""
    from lehr.monitoring.mlflow_delivery import Delivery
    from lehr.monitoring.mlflow_errors import brief
    from lehr.monitoring.mlflow_moved import artifacts_of, tracking_uri_of
    from lehr.monitoring.mlflow_opening import Wanted
    from lehr.monitoring.mlflow_spool import FOLDER
    from lehr.runtime.errors import InfraError, from_os_error
    from lehr.runtime.redaction import masked
    from lehr.tasks.tracked_run import TrackedRun

    uri, folder = os.environ.get("MLFLOW_TRACKING_URI", ""), place.folder
    store = Wanted(uri or tracking_uri_of(folder), "", "", None if uri else artifacts_of(folder), {}, {}, "")
    shared, delivery = TrackedRun(place, uri, ""), Delivery(store, lambda text: say(text, err=True))
    try:
        shared.bring(folder / FOLDER)
        _send_all(delivery, folder / FOLDER)
        shared.sent(folder / FOLDER)
    except OSError as error:
        raise from_os_error(error) from error
    except Exception as error:
        raise InfraError(f"{masked(store.tracking_uri)}: {masked(brief(error))}. What was not sent still waits") from error
    say(f"sent {delivery.sent} records to {masked(store.tracking_uri)}")
    if left := len(list((folder / FOLDER).glob("*"))):
        say(f"{left} files stay in {folder / FOLDER}: a run that goes on writes them, or they cannot be sent", err=True)


def _send_all(delivery: Delivery, folder: Path) -> None:
    """As long as something arrives, an answer that was lost ends nothing. Raises what the last of some tries did."""
    before, tries = 0, 0
    while True:
        try:
            delivery.send_leftovers(folder, anywhere=True)
        except Exception:
            tries = 0 if delivery.sent > before else tries + 1
            before = delivery.sent
            if tries == _TRIES:
                raise
        else:
            return
