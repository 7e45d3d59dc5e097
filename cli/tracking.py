"""`lehr mlflow`: where a run's record in MLflow is."""

from __future__ import annotations

import sqlite3

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say


@click.command("mlflow")
@click.argument("run", type=RUN)
def mlflow_(run: Where) -> None:
    """Print the address of RUN's MLflow file, as MLflow's server and client take it.

    MLflow notes whole paths. Those of a run that was moved or copied are put right first, so that its artifacts are found
    where the run is now. The server is no part of Lehr: `pip install mlflow` into an environment of its own.

    \b
    Examples:
      lehr mlflow runs/tiny-olmo2
      mlflow server --backend-store-uri "$(lehr mlflow runs/tiny-olmo2)"
      export MLFLOW_TRACKING_URI="$(lehr mlflow runs/tiny-olmo2)"
    """
    from lehr.monitoring.mlflow_moved import put_right, tracking_uri_of
    from lehr.monitoring.mlflow_schema import FILE_NAME
    from lehr.runtime.errors import UserError
    from lehr.tasks.run_location import RunLocation

    folder = RunLocation(run).folder
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
