"""The double of flyteadmin compiles with the engine's own compiler, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.admin.workflow_pb2 import WorkflowSpec
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from lehr.infra.kube.api import Object
from tests.cluster.admin_lists import invalid
from tests.cluster.provide import find

MOST_PARALLEL = 25  # flyteadmin's own default


def referred(message: Message) -> Iterator[Identifier]:
    """The tasks that a workflow refers to, wherever in it."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in _parts(field, value):
            if isinstance(part, Identifier):
                if part.resource_type == ResourceType.TASK:
                    yield part
            elif isinstance(part, Message):
                yield from referred(part)


def _parts(field: Any, value: Any) -> Sequence[Any]:
    if field.message_type.GetOptions().map_entry:
        return list(value.values())
    return list(value) if isinstance(value, Sequence) else [value]


def check_task(spec: TaskSpec) -> None:
    """Raises Refused with what the compiler says."""
    _run([spec], None, "-closure", identifier=spec.template.id)


def closure_of(workflow: WorkflowSpec, tasks: Sequence[TaskSpec]) -> CompiledWorkflowClosure:
    """What the compiler makes of a workflow. Raises Refused with what it says."""
    name = workflow.template.id.name
    return CompiledWorkflowClosure.FromString(
        _run(tasks, workflow, "-closure", "-workflow", name, identifier=workflow.template.id)
    )


def flyte_workflow(
    workflow: WorkflowSpec,
    tasks: Sequence[TaskSpec],
    execution: WorkflowExecutionIdentifier,
    inputs: LiteralMap,
    spec: ExecutionSpec,
) -> Object:
    """The object that the engine runs. Raises Refused, for inputs of a wrong type too."""
    with tempfile.NamedTemporaryFile(suffix=".pb") as given:
        Path(given.name).write_bytes(inputs.SerializeToString())
        more = ["-workflow", workflow.template.id.name, "-execution", execution.name, "-inputs", given.name]
        more += ["-max-parallelism", str(spec.max_parallelism or MOST_PARALLEL)]
        more += ["-raw-output", spec.raw_output_data_config.output_location_prefix]
        found: Object = json.loads(_run(tasks, workflow, *more, identifier=workflow.template.id))
    _settle(found, spec)
    return found


def _settle(found: Object, spec: ExecutionSpec) -> None:
    """What of an execution's specification the compiler does not take."""
    meta, config = found["metadata"], found["executionConfig"]
    meta["labels"] = {**spec.labels.values, **meta.get("labels", {})}
    meta["annotations"] = {**meta.get("annotations", {}), **spec.annotations.values}
    if spec.security_context.run_as.k8s_service_account:
        found["serviceAccountName"] = spec.security_context.run_as.k8s_service_account
    if spec.HasField("security_context"):
        found["securityContext"] = MessageToDict(spec.security_context, preserving_proto_field_name=True)
    if spec.HasField("interruptible"):
        config["Interruptible"] = spec.interruptible.value
    config["OverwriteCache"] = spec.overwrite_cache
    config["EnvironmentVariables"] = {pair.key: pair.value for pair in spec.envs.values}


def _run(tasks: Sequence[TaskSpec], workflow: WorkflowSpec | None, *more: str, identifier: Identifier) -> bytes:
    program = find("flyte-compile")
    assert program is not None, "no flyte-compile: run `make control-plane` first"
    with tempfile.TemporaryDirectory() as folder:
        for number, task in enumerate(tasks):
            Path(folder, f"{number}_1.pb").write_bytes(task.SerializeToString())
        if workflow is not None:
            Path(folder, "0_2.pb").write_bytes(workflow.SerializeToString())
        command = [str(program), "-specs", folder, "-project", identifier.project, "-domain", identifier.domain]
        done = subprocess.run([*command, "-version", identifier.version, *more], capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        raise invalid(f"failed to compile {identifier.name}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
