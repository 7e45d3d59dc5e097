"""Every error is owned by the user, the machine or Lehr: which of them a retry can overcome, and how a task reports that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from lehr.distributed.rank_launcher import lead_or_follow
from lehr.infra.pod.pod_template import EXIT_RESTART, EXIT_SUSPECT
from lehr.runtime.errors import InfraError, NodeFault, Preempted, node_fault
from lehr.runtime.preemption import listening
from lehr.runtime.rank_environment import yield_to_leader
from lehr.tasks.exporting import follow
from lehr.tasks.termination import in_pod, terminate, termination_details
from lehr.tasks.watchdog import watch

F = TypeVar("F", bound=Callable[..., Any])


def owned(retry: Callable[[str], Exception] = InfraError) -> Callable[[F], F]:
    """Raise `retry(message)` for errors that a retry can overcome: the machine's, and SIGTERM; never the user's or Lehr's own.

    Under a launcher every rank calls the function; rank 0 runs it, and the others follow it and end in the same way. In a pod
    such errors end the process with an exit code, which costs none of the user's retries (tasks/termination.py).
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if in_pod():
                watch()
                follow()
            try:
                with listening():
                    return lead_or_follow(lambda: function(*args, **kwargs))
            except Exception as error:
                known = node_fault(error) or error
                if not isinstance(known, InfraError | Preempted):
                    raise
                yield_to_leader()
                if in_pod():
                    code = EXIT_SUSPECT if isinstance(known, NodeFault) else EXIT_RESTART
                    terminate(code, str(known), termination_details(), stopped=isinstance(known, Preempted))
                raise retry(str(known)) from error

        return cast(F, call)

    return decorate
