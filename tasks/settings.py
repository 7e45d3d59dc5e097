"""Resources, retries and image of the tasks, in one place, and the translation of errors into Flyte's words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flytekit import Resources
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.errors import InfraError, Preempted
from lehr.stop import listening

F = TypeVar("F", bound=Callable[..., Any])

# The image is named at registration: pyflyte register --image lehr=NAME@DIGEST.
IMAGE = "{{.image.lehr.fqn}}:{{.image.lehr.version}}"
SMALL: dict[str, Any] = {"requests": Resources(cpu="1", mem="2Gi"), "container_image": IMAGE}
# Flyte never retries an error that is not marked recoverable, whatever `retries` says; `owned` marks them.
TRAINING: dict[str, Any] = {"requests": Resources(cpu="2", mem="4Gi"), "retries": 3, "container_image": IMAGE}


def owned(function: F) -> F:
    """Tell Flyte which errors a retry can mend: the machine's, and SIGTERM; never the user's or ours."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            with listening():
                return function(*args, **kwargs)
        except (InfraError, Preempted) as error:
            raise FlyteRecoverableException(str(error)) from error

    return cast(F, call)
