"""Opens a run in MLflow: the store, the experiment, and the parent run of this recipe in this place."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lehr.monitoring.mlflow_errors import EXISTS, code_of, refused
from lehr.monitoring.mlflow_keys import fitted, tags_of
from lehr.monitoring.mlflow_moved import put_right
from lehr.monitoring.mlflow_schema import sqlite_file
from lehr.monitoring.mlflow_store import prepare, set_environment, tidy
from lehr.runtime.checkout import commit
from lehr.runtime.errors import UserError

RUN_KEY = "lehr.run_key"
# Of several processes that each offer an ID for the same run, one gets its way: called with an offer and a check of another's,
# it returns the ID that holds for all.
Elect = Callable[[str, Callable[[str], bool]], str]
_NAME_CHARACTERS = 250


class Opened(NamedTuple):
    """An MlflowClient, the experiment, the parent run, and the tags for every run."""

    client: Any
    experiment_id: str
    parent_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """Which run to open, and where. `artifact_location` is set if the store is a run's own file. `order`: the stages as the
    recipe's graph has them; `process` names the process that tracks."""

    tracking_uri: str
    experiment: str
    run_name: str
    artifact_location: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    run_key: str
    order: tuple[str, ...] = field(default=())
    process: str = ""


def open_parent(wanted: Wanted, elect: Elect | None = None) -> Opened:
    """Connect; find or create the experiment and the parent run with this key. The addresses in a file that was moved or copied
    with its run's folder are corrected first. `elect` settles which parent it is where processes may open a run at the same
    time. Raises MLflow's errors, and what `elect` raises."""
    tracking_uri = wanted.tracking_uri
    set_environment()
    prepare(tracking_uri)
    if wanted.artifact_location and (file := sqlite_file(tracking_uri)):
        put_right(file)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri)
    experiment_id = _experiment(client, wanted)
    every = {**_who(), **wanted.tags, RUN_KEY: wanted.run_key}
    tidy(tracking_uri)
    parent_id = _find_or_make_parent(client, experiment_id, wanted.run_name, every, elect)
    return Opened(client, experiment_id, parent_id, every)


def _experiment(client: Any, wanted: Wanted) -> str:
    """Raises UserError for one that was deleted."""
    name = wanted.experiment
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, wanted.artifact_location))
        except Exception as error:
            if code_of(error) not in EXISTS:
                raise
            known = client.get_experiment_by_name(name)  # another process was faster
    if known.lifecycle_stage == "deleted":
        again = f"restore it with `mlflow experiments restore --experiment-id {known.experiment_id}`"
        raise UserError(f"the experiment {name!r} was deleted", remedy=f"{again}, or remove it for good")
    return str(known.experiment_id)


def _who() -> dict[str, str]:
    """MLflow's own tags for a run's user and commit, which its client sets only in the fluent interface."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a pod the user ID may have no name
        user = str(os.getuid())
    sha = commit()
    return {"mlflow.user": user, **({"mlflow.source.git.commit": sha} if sha else {})}


def _find_or_make_parent(client: Any, experiment_id: str, name: str, tags: dict[str, str], elect: Elect | None) -> str:
    """The parent with this run key. MLflow has no atomic find-or-create: of several processes that make one at the same time,
    those that are not elected delete their own; without an election the earliest is kept."""
    query = f"tags.`{RUN_KEY}` = '{tags[RUN_KEY]}' and tags.`lehr.role` = 'recipe'"

    def first() -> str:
        found = client.search_runs([experiment_id], query, order_by=["attributes.start_time ASC"], max_results=1)
        return str(found[0].info.run_id) if found else ""

    made = ""
    if not (offer := first()):
        every = tags_of({**tags, "lehr.role": "recipe"})
        offer = made = str(client.create_run(experiment_id, tags=every, run_name=fitted(name, _NAME_CHARACTERS)).info.run_id)
    settled = elect(offer, lambda run_id: _is_there(client, run_id, tags[RUN_KEY])) if elect else first()
    if made and settled != made:
        client.delete_run(made)
    elif not made:
        client.update_run(settled, status="RUNNING")
    return settled


def _is_there(client: Any, run_id: str, key: str) -> bool:
    """Whether the server has that run, and it is one of this key."""
    try:
        run = client.get_run(run_id)
    except Exception as error:
        if code_of(error) != "RESOURCE_DOES_NOT_EXIST" and not refused(error):
            raise
        return False
    return bool(run.info.lifecycle_stage == "active") and run.data.tags.get(RUN_KEY) == key
