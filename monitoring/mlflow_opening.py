"""Opens a run in MLflow: the store, the experiment, and the parent run of this recipe in this place."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lehr.monitoring.mlflow_moved import put_right
from lehr.monitoring.mlflow_schema import sqlite_file
from lehr.monitoring.mlflow_store import prepare, set_environment, tidy
from lehr.runtime.checkout import commit
from lehr.runtime.errors import UserError

RUN_KEY = "lehr.run_key"
_PARAMS = 100  # in one call; MLflow's limit


class Opened(NamedTuple):
    """An MlflowClient, the experiment, the parent run, and the tags for every run."""

    client: Any
    experiment_id: str
    parent_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """Which run to open, and where. `artifact_location` is set if the store is a run's own file."""

    tracking_uri: str
    experiment: str
    run_name: str
    artifact_location: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    run_key: str


def open_parent(wanted: Wanted) -> Opened:
    """Connect; find or create the experiment and the parent run with this key. The addresses in a file that was moved or copied
    with its run's folder are corrected first. Raises MLflow's errors."""
    tracking_uri, experiment, run_key = wanted.tracking_uri, wanted.experiment, wanted.run_key
    set_environment()
    prepare(tracking_uri)
    if wanted.artifact_location and (file := sqlite_file(tracking_uri)):
        put_right(file)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri)
    known = client.get_experiment_by_name(experiment)
    if known and known.lifecycle_stage == "deleted":
        again = f"restore it with `mlflow experiments restore --experiment-id {known.experiment_id}`"
        raise UserError(f"the experiment {experiment!r} was deleted", remedy=f"{again}, or remove it for good")
    experiment_id = known.experiment_id if known else client.create_experiment(experiment, wanted.artifact_location)
    every = {**_who(), **wanted.tags, RUN_KEY: run_key}
    tidy(tracking_uri)
    parent_id = _find_or_make_parent(client, experiment_id, wanted.run_name, every)
    log_params(client, parent_id, wanted.params)
    return Opened(client, experiment_id, parent_id, every)


def _who() -> dict[str, str]:
    """MLflow's own tags for a run's user and commit, which its client sets only in the fluent interface."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a pod the user ID may have no name
        user = str(os.getuid())
    sha = commit()
    return {"mlflow.user": user, **({"mlflow.source.git.commit": sha} if sha else {})}


def _find_or_make_parent(client: Any, experiment_id: str, run_name: str, tags: dict[str, str]) -> str:
    """The parent with this run key. If several tasks create one at the same time, the earliest is kept."""
    query = f"tags.`{RUN_KEY}` = '{tags[RUN_KEY]}' and tags.`lehr.role` = 'recipe'"
    order = ["attributes.start_time ASC"]
    found = client.search_runs([experiment_id], query, order_by=order, max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    made = client.create_run(experiment_id, tags={**tags, "lehr.role": "recipe"}, run_name=run_name)
    # Search again: MLflow has no atomic find-or-create, so a task that lost the race deletes its own.
    first = client.search_runs([experiment_id], query, order_by=order, max_results=1)[0]
    if first.info.run_id != made.info.run_id:
        client.delete_run(made.info.run_id)
    return str(first.info.run_id)


def log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    """MLflow's parameters cannot be changed: those that are recorded already are left as they are."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    fresh = [Param(key, value) for key, value in params.items() if key not in known and value != ""]
    for at in range(0, len(fresh), _PARAMS):
        client.log_batch(run_id, params=fresh[at : at + _PARAMS])
