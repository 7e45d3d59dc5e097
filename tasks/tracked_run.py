"""What pods of one run share of its tracking in MLflow, by way of the run's own store; and where a process runs, as tags."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

from lehr.artifacts.artifact import sha256_text
from lehr.monitoring.mlflow_spool import FOLDER
from lehr.runtime.errors import InfraError
from lehr.runtime.ports import Conflict
from lehr.runtime.redaction import masked
from lehr.tasks.run_location import RunLocation

_PARENTS = "mlflow-parents"  # folder of the store: which run in MLflow is the parent, by server and run
_TRIES = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
_FLYTE = {"EXECUTION_ID": "execution", "EXECUTION_PROJECT": "project", "EXECUTION_DOMAIN": "domain", "TASK_NAME": "task"}


class TrackedRun:
    """The SharedRun of `lehr.monitoring.mlflow_tracker` on a run's folder or object store."""

    def __init__(self, place: RunLocation, tracking_uri: str, run_key: str) -> None:
        self._place = place
        self._key = f"{_PARENTS}/{run_key}-{sha256_text(masked(tracking_uri))[:16]}"
        self._fetched: list[str] = []

    def elect(self, offer: str, is_there: Callable[[str], bool]) -> str:
        """The ID of the parent run for all pods: the first one that was elected, as long as MLflow has it. The store's
        conditional put lets one of several win. Raises InfraError if the store does not settle it."""
        store = self._place.store()
        for _ in range(_TRIES):
            found = store.get(self._key)
            if found and (found[0] == offer or is_there(found[0])):
                return found[0]
            try:
                store.put(self._key, offer, found[1] if found else None)
            except Conflict:
                continue  # another pod was faster
            return offer
        raise InfraError(f"{self._place.root}/{self._key}: the parent run in MLflow could not be settled")

    def bring(self, folder: Path) -> None:
        """Fetch what ended pods could not send. A folder that pods share needs none of this."""
        if self._place.remote:
            self._fetched = self._place.names(FOLDER)
            for name in self._fetched:
                self._place.brought(name)

    def sent(self, folder: Path) -> None:
        """Delete from the store what has been sent since."""
        if done := [name for name in self._fetched if not (folder / Path(name).name).exists()]:
            self._place.objects().delete(done)
            self._fetched = []

    def keep(self, folder: Path) -> None:
        """Copy what waits to the store: a pod's own disk goes with it."""
        self._place.share([FOLDER])


def whereabouts() -> dict[str, str]:
    """Tags that say where this process runs: machine or pod, Flyte's execution and task. What is no name is left out."""
    tags = {f"flyte.{tag}": os.environ.get(f"FLYTE_INTERNAL_{name}", "") for name, tag in _FLYTE.items()}
    return {key: text for key, text in {**tags, "lehr.host": socket.gethostname()}.items() if _NAME.fullmatch(text)}
