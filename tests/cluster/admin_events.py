"""The double of flyteadmin, what the engine tells it: events of runs, nodes and tasks. Nothing else changes a phase, but that a
run which somebody ends is ABORTING until the engine has said that it is ABORTED."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from flyteidl.admin import event_pb2, execution_pb2, node_execution_pb2, task_execution_pb2
from flyteidl.core.execution_pb2 import NodeExecution as NodePhases
from flyteidl.core.execution_pb2 import TaskExecution as TaskPhases
from flyteidl.core.execution_pb2 import WorkflowExecution as Phases
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceServicer
from google.protobuf.duration_pb2 import Duration

from tests.cluster.admin_lists import Refused, missing, page, seconds
from tests.cluster.admin_store import Store, blob

ENDS = {Phases.SUCCEEDED, Phases.FAILED, Phases.ABORTED, Phases.TIMED_OUT}
NODE_ENDS = {
    NodePhases.SUCCEEDED, NodePhases.FAILED, NodePhases.ABORTED, NodePhases.SKIPPED, NodePhases.TIMED_OUT, NodePhases.RECOVERED,
}  # fmt: skip
TASK_ENDS = {TaskPhases.SUCCEEDED, TaskPhases.FAILED, TaskPhases.ABORTED, TaskPhases.RETRYABLE_FAILED}


@dataclass
class Node:
    """A node's execution: what is told of it, the node that it is inside, its tasks, and the graph that it made, if any."""

    told: Any
    parent: str = ""
    tasks: dict[tuple[str, int], Any] = field(default_factory=dict)
    graph: Any = None


@dataclass
class Run:
    """An execution: what is told of it, where its inputs are, and its nodes by their ids."""

    told: Any
    inputs: str
    nodes: dict[str, Node] = field(default_factory=dict)


def _settle(closure: Any, event: Any, running: int, ends: set[int]) -> None:
    """What an event says of its run, node or task: phase, times, and result."""
    closure.phase = event.phase
    closure.updated_at.CopyFrom(event.occurred_at)
    if not closure.HasField("created_at"):
        closure.created_at.CopyFrom(event.occurred_at)
    if event.phase == running and not closure.HasField("started_at"):
        closure.started_at.CopyFrom(event.occurred_at)
    if event.phase in ends and closure.HasField("started_at"):
        lasted = max(seconds(event.occurred_at) - seconds(closure.started_at), 0)
        closure.duration.CopyFrom(Duration(seconds=int(lasted), nanos=int(lasted % 1 * 1e9)))
    if event.HasField("error"):
        closure.error.CopyFrom(event.error)
    elif event.HasField("output_data"):
        closure.output_data.CopyFrom(event.output_data)
    elif event.output_uri:
        if isinstance(closure, execution_pb2.ExecutionClosure):
            closure.outputs.uri = event.output_uri
        else:
            closure.output_uri = event.output_uri


def _check(before: int, event: Any, names: Any, ends: set[int]) -> None:
    """As flyteadmin: a phase is told once, and what has ended stays ended."""
    if before == event.phase:
        raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"This phase {names.Name(event.phase)} was already recorded")
    if before in ends:
        raise ended_before(names.Name(before), f"Invalid phase change from {names.Name(before)} to {names.Name(event.phase)}")


def ended_before(phase: str, message: str) -> Refused:
    """The engine goes by the detail: it lets go of a run that it is told has ended."""
    reason = event_pb2.EventFailureReason(
        already_in_terminal_state=event_pb2.EventErrorAlreadyInTerminalState(current_phase=phase)
    )
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, message, reason)


class Events(AdminServiceServicer):
    """`runs` are the executions by name. Of others, which were started beside this double, events are taken and forgotten."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs: dict[str, Run] = {}

    def run(self, identifier: WorkflowExecutionIdentifier) -> Run:
        found = self.runs.get(identifier.name)
        if found is None or (found.told.id.project, found.told.id.domain) != (identifier.project, identifier.domain):
            raise missing(f"missing entity of type execution with identifier {identifier.project}:{identifier.domain}:"
                          f"{identifier.name}")  # fmt: skip
        return found

    def node(self, identifier: NodeExecutionIdentifier) -> Node:
        found = self.run(identifier.execution_id).nodes.get(identifier.node_id)
        if found is None:
            raise missing(f"missing node execution {identifier.execution_id.name} {identifier.node_id}")
        return found

    def CreateWorkflowEvent(self, request: Any, context: Any) -> Any:
        event = request.event
        if event.execution_id.name in self.runs:
            run = self.run(event.execution_id)
            closure = run.told.closure
            _check(closure.phase, event, Phases.Phase, ENDS)
            if closure.phase == Phases.ABORTING and event.phase not in ENDS:
                to = Phases.Phase.Name(event.phase)
                raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"Invalid phase change from aborting to {to}")
            cause = closure.abort_metadata.cause
            _settle(closure, event, Phases.RUNNING, ENDS)
            if event.phase == Phases.ABORTED:
                closure.abort_metadata.cause = cause
        return event_pb2.WorkflowExecutionEventResponse()

    def CreateNodeEvent(self, request: Any, context: Any) -> Any:
        event = request.event
        run = self.runs.get(event.id.execution_id.name)
        if run is None:
            return event_pb2.NodeExecutionEventResponse()
        node = run.nodes.setdefault(event.id.node_id, Node(node_execution_pb2.NodeExecution(id=event.id)))
        if event.phase != NodePhases.DYNAMIC_RUNNING:
            _check(node.told.closure.phase or -1, event, NodePhases.Phase, NODE_ENDS)
        _settle(node.told.closure, event, NodePhases.RUNNING, NODE_ENDS)
        _describe(node, event)
        return event_pb2.NodeExecutionEventResponse()

    def CreateTaskEvent(self, request: Any, context: Any) -> Any:
        event = request.event
        run = self.runs.get(event.parent_node_execution_id.execution_id.name)
        if run is None:
            return event_pb2.TaskExecutionEventResponse()
        place = event.parent_node_execution_id
        node = run.nodes.setdefault(place.node_id, Node(node_execution_pb2.NodeExecution(id=place)))
        identifier = TaskExecutionIdentifier(task_id=event.task_id, node_execution_id=place, retry_attempt=event.retry_attempt)
        new = task_execution_pb2.TaskExecution(id=identifier)
        task = node.tasks.setdefault((event.task_id.name, event.retry_attempt), new)
        if task.closure.phase in TASK_ENDS:
            _check(task.closure.phase, event, TaskPhases.Phase, TASK_ENDS)
        _settle(task.closure, event, TaskPhases.RUNNING, TASK_ENDS)
        _describe_task(task, event)
        return event_pb2.TaskExecutionEventResponse()

    def GetNodeExecution(self, request: Any, context: Any) -> Any:
        return self.node(request.id).told

    def ListNodeExecutions(self, request: Any, context: Any) -> Any:
        nodes = self.run(request.workflow_execution_id).nodes.values()
        found = [node.told for node in nodes if node.parent == request.unique_parent_id]
        made, token = page(found, request, _node_fields)
        return node_execution_pb2.NodeExecutionList(node_executions=made, token=token)

    def ListNodeExecutionsForTask(self, request: Any, context: Any) -> Any:
        """Nodes inside the node of a task."""
        place = request.task_execution_id.node_execution_id
        nodes = self.run(place.execution_id).nodes.values()
        made, token = page([n.told for n in nodes if n.parent == place.node_id], request, _node_fields)
        return node_execution_pb2.NodeExecutionList(node_executions=made, token=token)

    def GetDynamicNodeWorkflow(self, request: Any, context: Any) -> Any:
        node = self.node(request.id)
        if node.graph is None:
            raise missing(f"node {request.id.node_id} is not dynamic")
        return node_execution_pb2.DynamicNodeWorkflowResponse(compiled_workflow=node.graph.compiled_workflow)

    def GetNodeExecutionData(self, request: Any, context: Any) -> Any:
        node = self.node(request.id)
        made = node_execution_pb2.NodeExecutionGetDataResponse()
        self._fill(made, node.told.input_uri, node.told.closure)
        if node.graph is not None:
            made.dynamic_workflow.id.CopyFrom(node.graph.id)
            made.dynamic_workflow.compiled_workflow.CopyFrom(node.graph.compiled_workflow)
            made.dynamic_workflow.dynamic_job_spec_uri = node.graph.dynamic_job_spec_uri
        return made

    def _task(self, identifier: TaskExecutionIdentifier) -> Any:
        found = self.node(identifier.node_execution_id).tasks.get((identifier.task_id.name, identifier.retry_attempt))
        if found is None:
            raise missing(f"missing task execution {identifier.task_id.name} {identifier.retry_attempt}")
        return found

    def GetTaskExecution(self, request: Any, context: Any) -> Any:
        return self._task(request.id)

    def ListTaskExecutions(self, request: Any, context: Any) -> Any:
        found, token = page(list(self.node(request.node_execution_id).tasks.values()), request, _task_fields)
        return task_execution_pb2.TaskExecutionList(task_executions=found, token=token)

    def GetTaskExecutionData(self, request: Any, context: Any) -> Any:
        task = self._task(request.id)
        made = task_execution_pb2.TaskExecutionGetDataResponse()
        self._fill(made, task.input_uri, task.closure)
        return made

    def _fill(self, made: Any, inputs: str, closure: Any) -> None:
        """Inputs and outputs, as far as there are."""
        found = self.store.literals(inputs)
        made.full_inputs.CopyFrom(found)
        made.inputs.CopyFrom(blob(inputs, found))
        where = closure.outputs.uri if isinstance(closure, execution_pb2.ExecutionClosure) else closure.output_uri
        found = closure.output_data if closure.HasField("output_data") else self.store.literals(where)
        made.full_outputs.CopyFrom(found)
        made.outputs.CopyFrom(blob(where, found))


def _describe(node: Node, event: Any) -> None:
    """What a node's events say besides phase and result. Of a dynamic one only those after its task has ended say all."""
    told, meta = node.told, node.told.metadata
    told.input_uri = event.input_uri or told.input_uri
    node.parent = event.parent_node_metadata.node_id or node.parent
    meta.spec_node_id = event.spec_node_id or meta.spec_node_id
    meta.retry_group = event.retry_group or meta.retry_group
    meta.is_parent_node |= event.is_parent
    meta.is_dynamic |= event.is_dynamic
    meta.is_array |= event.is_array
    told.closure.deck_uri = event.deck_uri or told.closure.deck_uri
    if event.HasField("task_node_metadata"):
        said = event.task_node_metadata
        told.closure.task_node_metadata.cache_status = said.cache_status
        told.closure.task_node_metadata.checkpoint_uri = said.checkpoint_uri
        if said.dynamic_workflow.HasField("compiled_workflow"):
            node.graph = said.dynamic_workflow
            told.closure.dynamic_job_spec_uri = said.dynamic_workflow.dynamic_job_spec_uri
    elif event.HasField("workflow_node_metadata"):
        told.closure.workflow_node_metadata.execution_id.CopyFrom(event.workflow_node_metadata.execution_id)


def _describe_task(task: Any, event: Any) -> None:
    closure = task.closure
    task.input_uri = event.input_uri or task.input_uri
    closure.task_type, closure.event_version = event.task_type, event.event_version
    closure.reason = event.reason or closure.reason
    closure.reasons.extend(task_execution_pb2.Reason(occurred_at=r.occurred_at, message=r.reason) for r in event.reasons)
    if event.logs:
        del closure.logs[:]
        closure.logs.extend(event.logs)
    if event.HasField("custom_info"):
        closure.custom_info.CopyFrom(event.custom_info)
    if event.HasField("metadata"):
        closure.metadata.MergeFrom(event.metadata)


def _node_fields(item: Any) -> dict[str, str | float]:
    phase = NodePhases.Phase.Name(item.closure.phase)
    return {"node_id": item.id.node_id, "phase": phase, "created_at": seconds(item.closure.created_at)}


def _task_fields(item: Any) -> dict[str, str | float]:
    phase = TaskPhases.Phase.Name(item.closure.phase)
    return {"phase": phase, "retry_attempt": item.id.retry_attempt, "created_at": seconds(item.closure.created_at)}
