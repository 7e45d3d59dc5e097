"""Resources, retries, image and pod of the tasks, in one place, and the translation of errors into Flyte's words."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flytekit import Resources
from flytekit.exceptions.user import FlyteRecoverableException

from infra.pods import EXIT_RESTART, EXIT_SUSPECT
from lehr.errors import InfraError, NodeFault, Preempted, UserError, node_fault
from lehr.launcher import give_way, together
from lehr.stop import listening
from tasks.ending import in_pod, last_words, leave
from tasks.pods import pod_template
from tasks.ranks import VARIABLE, elastic
from tasks.schemas import remember_types
from tasks.watchdog import watch

F = TypeVar("F", bound=Callable[..., Any])
remember_types()  # before the first task is declared

# The image is named at registration: pyflyte register --image lehr=NAME@DIGEST.
IMAGE = "{{.image.lehr.fqn}}:{{.image.lehr.version}}"


def asked_for(text: str) -> dict[str, Any]:
    """Resources of a task that trains, from LEHR_TASK_RESOURCES at registration: `cpu=32,mem=256Gi,gpu=8`.

    Raises UserError for anything else.
    """
    wanted = {"cpu": "2", "mem": "4Gi"}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, amount = part.partition("=")
        if name not in ("cpu", "mem", "gpu") or not amount:
            raise UserError(f"{part!r} asks for nothing", where="LEHR_TASK_RESOURCES", remedy="write cpu=32,mem=256Gi,gpu=8")
        wanted[name] = amount
    try:
        asked = Resources(**wanted)
    except (AssertionError, ValueError) as error:
        raise UserError(str(error), where="LEHR_TASK_RESOURCES", remedy="write cpu=32,mem=256Gi,gpu=8") from error
    # Kubernetes wants a limit for GPUs, and it is the request.
    return {"requests": asked, "limits": asked} if "gpu" in wanted else {"requests": asked}


_RANKS = os.environ.get(VARIABLE, "")
# A task is made anew in its container, which must therefore know what was asked for at registration.
_ENVIRONMENT = {VARIABLE: _RANKS} if _RANKS else {}

SMALL: dict[str, Any] = {
    "requests": Resources(cpu="1", mem="2Gi"),
    "container_image": IMAGE,
    "pod_template": pod_template(checked=False),
    "environment": _ENVIRONMENT,
}
# Flyte never retries an error that is not marked recoverable, whatever `retries` says; `owned` marks them.
TRAINING: dict[str, Any] = {
    **asked_for(os.environ.get("LEHR_TASK_RESOURCES", "")),
    "retries": 3,
    "container_image": IMAGE,
    "pod_template": pod_template(),
    "environment": _ENVIRONMENT,
}
RANKED: dict[str, Any] = {**TRAINING, **elastic(_RANKS)}


def owned(function: F) -> F:
    """Tell Flyte which errors a retry can mend: the machine's, and SIGTERM; never the user's or ours.

    Called on every rank of a launcher, it runs on the first; the others follow and end alike.

    In a pod these end the process with an exit code, which costs none of the user's retries (tasks/ending.py).
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if in_pod():
            watch()
        try:
            with listening():
                return together(lambda: function(*args, **kwargs))
        except Exception as error:
            known = node_fault(error) or error
            if not isinstance(known, InfraError | Preempted):
                raise
            give_way()
            if in_pod():
                code = EXIT_SUSPECT if isinstance(known, NodeFault) else EXIT_RESTART
                leave(code, str(known), last_words(), stopped=isinstance(known, Preempted))
            raise FlyteRecoverableException(str(known)) from error

    return cast(F, call)
