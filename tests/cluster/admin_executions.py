"""The double of flyteadmin, executions: it hands the engine what it is to run, and tells what the engine said of it."""

from __future__ import annotations

import re
import secrets
import string
from typing import Any

import grpc
from flyteidl.admin import execution_pb2, project_pb2, version_pb2
from flyteidl.core.execution_pb2 import WorkflowExecution as Phases
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from lehr.infra.kube.api import Api, ApiError
from tests.cluster.admin_compile import flyte_workflow
from tests.cluster.admin_entities import Entities
from tests.cluster.admin_events import ENDS, Events, Run, ended_before
from tests.cluster.admin_lists import DOMAIN, PROJECT, Refused, check_place, invalid, now, page, seconds
from tests.cluster.admin_store import Store

WORKFLOWS = "/apis/flyte.lyft.com/v1alpha1/namespaces/{}/flyteworkflows"
VERSION = "v1.16.8-double"
_LONGEST = 63  # characters of an execution's name
_MODES = execution_pb2.ExecutionMetadata


class Admin(Entities, Events):
    """All calls."""

    def __init__(self, api: Api, store: Store) -> None:
        Entities.__init__(self)
        Events.__init__(self, store)
        self.api = api

    def CreateExecution(self, request: Any, context: Any) -> Any:
        given = request.inputs if request.HasField("inputs") else request.spec.inputs
        return self._create(request, given, _MODES.MANUAL)

    def RelaunchExecution(self, request: Any, context: Any) -> Any:
        before = self.run(request.id)
        asked = execution_pb2.ExecutionCreateRequest(project=request.id.project, domain=request.id.domain, name=request.name)
        asked.spec.CopyFrom(before.told.spec)
        asked.spec.overwrite_cache = request.overwrite_cache
        asked.spec.metadata.reference_execution.CopyFrom(request.id)
        fixed = self.plans.spec(asked.spec.launch_plan).fixed_inputs.literals
        given = {name: value for name, value in self.store.literals(before.inputs).literals.items() if name not in fixed}
        return self._create(asked, LiteralMap(literals=given), _MODES.RELAUNCH)

    def _create(self, request: Any, given: LiteralMap, mode: int) -> Any:
        spec = request.spec
        check_place(request.project, request.domain)
        identifier = WorkflowExecutionIdentifier(project=request.project, domain=request.domain, name=_name(request.name))
        if spec.launch_plan.resource_type != ResourceType.LAUNCH_PLAN:
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, "the double of flyteadmin executes launch plans alone")
        if identifier.name in self.runs:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"execution {identifier.name} already exists")
        plan = self.plans.find(spec.launch_plan)
        inputs = _inputs(given, plan)
        _inherit(spec, plan.spec)
        spec.metadata.mode, spec.metadata.system_metadata.namespace = mode, f"{request.project}-{request.domain}"
        self._launch(identifier, plan.spec.workflow_id, inputs, spec)
        told = execution_pb2.Execution(id=identifier, spec=spec)
        told.closure.created_at.CopyFrom(now())
        told.closure.updated_at.CopyFrom(told.closure.created_at)
        told.closure.workflow_id.CopyFrom(plan.spec.workflow_id)
        self.runs[identifier.name] = Run(told, self._inputs_of(identifier))
        return execution_pb2.ExecutionCreateResponse(id=identifier)

    def _launch(self, identifier: Any, workflow: Any, inputs: LiteralMap, spec: Any) -> None:
        """Into the cluster; inputs into the store too, where clients ask for them."""
        found = self.workflows.spec(workflow)
        made = flyte_workflow(found, self.tasks_of(found), identifier, inputs, spec)
        made["acceptedAt"] = now().ToJsonString().partition(".")[0].rstrip("Z") + "Z"
        self.store.put(self._inputs_of(identifier), inputs.SerializeToString())
        try:
            self.api.create(WORKFLOWS.format(spec.metadata.system_metadata.namespace), made)
        except ApiError as error:
            raise Refused(grpc.StatusCode.INTERNAL, f"failed to create workflow in propeller: {error.message}") from None

    def _inputs_of(self, identifier: WorkflowExecutionIdentifier) -> str:
        return self.store.uri(f"metadata/{identifier.project}/{identifier.domain}/{identifier.name}/inputs")

    def GetExecution(self, request: Any, context: Any) -> Any:
        return self.run(request.id).told

    def GetExecutionData(self, request: Any, context: Any) -> Any:
        run = self.run(request.id)
        made = execution_pb2.WorkflowExecutionGetDataResponse()
        self._fill(made, run.inputs, run.told.closure)
        return made

    def ListExecutions(self, request: Any, context: Any) -> Any:
        place = (request.id.project, request.id.domain)
        found = [run.told for run in self.runs.values() if (run.told.id.project, run.told.id.domain) == place]
        made, token = page([one for one in found if request.id.name in ("", one.id.name)], request, _fields)
        return execution_pb2.ExecutionList(executions=made, token=token)

    def TerminateExecution(self, request: Any, context: Any) -> Any:
        """The engine ends the run once its object is marked as deleted, and says so."""
        closure = self.run(request.id).told.closure
        if closure.phase in ENDS:
            raise ended_before(Phases.Phase.Name(closure.phase), "Cannot abort an already terminated workflow execution")
        closure.abort_metadata.cause = request.cause
        closure.phase = Phases.ABORTING
        path = f"{WORKFLOWS.format(f'{request.id.project}-{request.id.domain}')}/{request.id.name}"
        try:
            self.api.delete(path, self.api.get(path)["metadata"]["uid"])
        except ApiError as error:
            if error.status != 404:
                raise Refused(grpc.StatusCode.INTERNAL, error.message) from None
        return execution_pb2.ExecutionTerminateResponse()

    def ListProjects(self, request: Any, context: Any) -> Any:
        domains = [project_pb2.Domain(id=DOMAIN, name=DOMAIN)]
        return project_pb2.Projects(projects=[project_pb2.Project(id=PROJECT, name=PROJECT, domains=domains)])

    def GetProject(self, request: Any, context: Any) -> Any:
        check_place(request.id, DOMAIN)
        return self.ListProjects(request, context).projects[0]

    def GetDomains(self, request: Any, context: Any) -> Any:
        return project_pb2.GetDomainsResponse(domains=[project_pb2.Domain(id=DOMAIN, name=DOMAIN)])

    def GetVersion(self, request: Any, context: Any) -> Any:
        return version_pb2.GetVersionResponse(control_plane_version=version_pb2.Version(Version=VERSION, Build="double"))


def _name(asked: str) -> str:
    if not asked:
        return "a" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(19))
    if len(asked) > _LONGEST:
        raise invalid(f"size of name exceeded length {_LONGEST} : {asked}")
    if not re.fullmatch(r"[a-z][a-z\-0-9]*", asked.lower()):
        raise invalid(f"invalid name format: {asked}")
    return asked


def _inputs(given: LiteralMap, plan: Any) -> LiteralMap:
    """With the launch plan's defaults and fixed inputs. Types are left to the compiler."""
    expected, found = plan.closure.expected_inputs.parameters, dict(given.literals)
    for name in found:
        if name not in expected:
            fixed = name in plan.spec.fixed_inputs.literals
            raise invalid(f"fixed_inputs {name} cannot be overridden" if fixed else f"invalid input {name}")
    for name, parameter in expected.items():
        if name not in found and parameter.required:
            raise invalid(f"expected_inputs {name} missing")
        found.setdefault(name, parameter.default)
    return LiteralMap(literals={**found, **plan.spec.fixed_inputs.literals})


def _inherit(spec: Any, plan: Any) -> None:
    """What an execution does not say is as in its launch plan."""
    spec.max_parallelism = spec.max_parallelism or plan.max_parallelism
    spec.overwrite_cache |= plan.overwrite_cache
    for name in ("interruptible", "security_context", "raw_output_data_config", "envs", "labels", "annotations"):
        if plan.HasField(name) and not spec.HasField(name):
            getattr(spec, name).CopyFrom(getattr(plan, name))


def _fields(item: Any) -> dict[str, str | float]:
    phase, created = Phases.Phase.Name(item.closure.phase), seconds(item.closure.created_at)
    plan, workflow = item.spec.launch_plan.name, item.closure.workflow_id.name
    named = {"launch_plan.name": plan, "workflow.name": workflow}
    return {"name": item.id.name, "phase": phase, "created_at": created, "execution_created_at": created, **named}
