"""The stages of an execution on Flyte, as its admin service has them: which run, which failed, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lehr.infra.pod.stage_state import StageState, with_remedy
from lehr.tasks.flyte_remote import Flyte, answers

MESSAGE_CHARACTERS = 500
_ENDS = {"SUCCEEDED": "finished", "RECOVERED": "finished", "SKIPPED": "finished", "FAILED": "failed", "TIMED_OUT": "failed",
         "ABORTED": "cancelled"}  # fmt: skip
_BEFORE = {"UNDEFINED", "QUEUED"}
_WAITS = {"QUEUED", "INITIALIZING", "WAITING_FOR_RESOURCES", "UNDEFINED"}  # of a task's pod
_OURS = {"start-node", "end-node"}


def states(flyte: Flyte, name: str) -> list[StageState]:
    """The execution, then its stages in the order in which they were started."""
    execution = flyte.execution(name)
    with answers(flyte.address):
        nodes = list(_nodes(flyte, execution.id, ""))
    own = StageState("execution", _of_execution(execution), "", "", 0, _why(execution.closure.error))
    return [own, *(_state(flyte, node) for node in sorted(nodes, key=_began))]


def links(flyte: Flyte, name: str, stage: str) -> list[tuple[str, str]]:
    """(title, address) of the logs of a stage's last pod, as Flyte was set up to give them."""
    execution = flyte.execution(name)
    with answers(flyte.address):
        for node in _nodes(flyte, execution.id, ""):
            if _stage(node) == stage:
                return [(log.name, log.uri) for task in _tasks(flyte, node)[-1:] for log in task.closure.logs]
    return []


def _nodes(flyte: Flyte, execution: Any, parent: str) -> Iterator[Any]:
    """Those that stand for stages: a dynamic task's children instead of itself, unless it has none."""
    token = ""
    while True:
        page, token = flyte.remote.client.list_node_executions(execution, token=token, unique_parent_id=parent or None)
        for node in page:
            if node.id.node_id in _OURS or _stage(node) in _OURS:
                continue
            children = list(_nodes(flyte, execution, node.id.node_id)) if node.metadata.is_parent_node else []
            yield from children or [node]
        if not token:
            return


def _stage(node: Any) -> str:
    return str(node.metadata.spec_node_id or node.id.node_id)


def _began(node: Any) -> tuple[float, str]:
    began = node.closure.started_at or node.closure.created_at
    return (began.timestamp() if began else float("inf"), _stage(node))


def _tasks(flyte: Flyte, node: Any) -> list[Any]:
    """Its attempts, the oldest first: as the service sends them, because flytekit's own type has no names of pods."""
    from flyteidl.admin.task_execution_pb2 import TaskExecutionListRequest
    from flytekit.clients.raw import RawSynchronousFlyteClient

    asked = TaskExecutionListRequest(node_execution_id=node.id.to_flyte_idl(), limit=100)
    found = RawSynchronousFlyteClient.list_task_executions_paginated(flyte.remote.client, asked).task_executions
    return sorted(found, key=lambda task: int(task.id.retry_attempt))


def _state(flyte: Flyte, node: Any) -> StageState:
    phase, tried = _node_phase(node.closure.phase), _tasks(flyte, node)
    state = _ENDS.get(phase, "waiting" if phase in _BEFORE else "running")
    last = tried[-1] if tried else None
    if state == "running" and last is not None and _task_phase(last.closure.phase) in _WAITS:
        state = "waiting"
    error = node.closure.error or (last.closure.error if last is not None and state != "finished" else None)
    said = _why(error)
    if state == "waiting" and last is not None and not said:
        said = with_remedy(" ".join(str(last.closure.reason).split())[:MESSAGE_CHARACTERS])
    pod = str(last.closure.metadata.generated_name) if last is not None else ""
    return StageState(_stage(node), state, pod, "", len(tried), said)


def _of_execution(execution: Any) -> str:
    from flytekit.models.core.execution import WorkflowExecutionPhase

    phase = WorkflowExecutionPhase.enum_to_string(execution.closure.phase)
    return _ENDS.get(phase, "waiting" if phase in _BEFORE else "running")


def _node_phase(number: int) -> str:
    from flyteidl.core.execution_pb2 import NodeExecution

    return str(NodeExecution.Phase.Name(number))


def _task_phase(number: int) -> str:
    from flyteidl.core.execution_pb2 import TaskExecution

    return str(TaskExecution.Phase.Name(number))


def _why(error: Any) -> str:
    """The last line of an error: of a traceback the error itself, of a pod's last message its reason."""
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()] if error is not None else []
    if not lines:
        return ""
    try:
        said = json.loads(lines[-1])
        return str(said["why"])[:MESSAGE_CHARACTERS]
    except (ValueError, TypeError, KeyError):
        return lines[-1][:MESSAGE_CHARACTERS]
