"""The double of flyteadmin, what is registered: tasks, workflows and launch plans, compiled by the engine's own program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from flyteidl.admin import common_pb2, launch_plan_pb2, task_pb2, workflow_pb2
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import Parameter, ParameterMap
from flyteidl.service.admin_pb2_grpc import AdminServiceServicer
from google.protobuf.message import Message

from tests.cluster.admin_compile import check_task, closure_of, referred
from tests.cluster.admin_lists import Fields, Refused, check_place, invalid, missing, now, page, seconds

Key = tuple[str, str, str, str]


def key(identifier: Identifier) -> Key:
    return identifier.project, identifier.domain, identifier.name, identifier.version


class Kept:
    """All versions of the entities of one kind: what was given, and what is told of them."""

    def __init__(self, kind: str, resource: int) -> None:
        self.kind, self.resource = kind, resource
        self.specs: dict[Key, Any] = {}
        self.told: dict[Key, Any] = {}

    def find(self, identifier: Identifier) -> Any:
        return self._of(self.told, identifier)

    def spec(self, identifier: Identifier) -> Any:
        return self._of(self.specs, identifier)

    def _of(self, where: dict[Key, Any], identifier: Identifier) -> Any:
        if key(identifier) not in where:
            raise missing(f"missing entity of type {self.kind} with identifier {' '.join(key(identifier))}")
        return where[key(identifier)]

    def check_new(self, identifier: Identifier, spec: Message) -> None:
        """Raises Refused if there is that version already: of the same content, or of another."""
        check_place(identifier.project, identifier.domain)
        if not identifier.name or not identifier.version:
            raise invalid(f"missing name or version of a {self.kind.lower()}")
        before = self.specs.get(key(identifier))
        if before is None:
            return
        if before.SerializeToString(deterministic=True) == spec.SerializeToString(deterministic=True):
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"{self.kind.lower()} with identical structure already exists")
        raise invalid(f"{identifier.name} {self.kind.lower()} with different structure already exists. "
                      f"(Please register a new version of the {self.kind.lower()})")  # fmt: skip

    def keep(self, identifier: Identifier, spec: Message, told: Any) -> None:
        told.id.CopyFrom(identifier)
        told.id.resource_type = self.resource
        told.closure.created_at.CopyFrom(now())
        self.specs[key(identifier)], self.told[key(identifier)] = spec, told

    def page(self, request: common_pb2.ResourceListRequest) -> tuple[list[Any], str]:
        wanted = (request.id.project, request.id.domain, request.id.name)
        found = [item for at, item in self.told.items() if at[:2] == wanted[:2] and wanted[2] in ("", at[2])]
        return page(found, request, _fields)

    def names(self, request: common_pb2.NamedEntityIdentifierListRequest) -> common_pb2.NamedEntityIdentifierList:
        named = sorted({at[:3] for at in self.told if at[:2] == (request.project, request.domain)})
        made = [common_pb2.NamedEntityIdentifier(project=p, domain=d, name=n) for p, d, n in named]
        return common_pb2.NamedEntityIdentifierList(entities=made)


def _fields(item: Any) -> Fields:
    found: dict[str, str | float] = {"name": item.id.name, "version": item.id.version}
    found["created_at"] = seconds(item.closure.created_at)
    if isinstance(item, launch_plan_pb2.LaunchPlan):
        found["state"] = str(item.closure.state)
    return found


class Entities(AdminServiceServicer):
    """The calls that register, and those that tell what is."""

    def __init__(self) -> None:
        self.tasks = Kept("TASK", ResourceType.TASK)
        self.workflows = Kept("WORKFLOW", ResourceType.WORKFLOW)
        self.plans = Kept("LAUNCH_PLAN", ResourceType.LAUNCH_PLAN)

    def tasks_of(self, workflow: workflow_pb2.WorkflowSpec) -> list[task_pb2.TaskSpec]:
        wanted = {key(identifier): identifier for identifier in referred(workflow)}
        return [self.tasks.spec(identifier) for identifier in wanted.values()]

    def CreateTask(self, request: Any, context: Any) -> Any:
        request.spec.template.id.CopyFrom(request.id)
        self.tasks.check_new(request.id, request.spec)
        check_task(request.spec)
        told = task_pb2.Task()
        told.closure.compiled_task.template.CopyFrom(request.spec.template)
        self.tasks.keep(request.id, request.spec, told)
        return task_pb2.TaskCreateResponse()

    def CreateWorkflow(self, request: Any, context: Any) -> Any:
        request.spec.template.id.CopyFrom(request.id)
        self.workflows.check_new(request.id, request.spec)
        told = workflow_pb2.Workflow()
        told.closure.compiled_workflow.CopyFrom(closure_of(request.spec, self.tasks_of(request.spec)))
        self.workflows.keep(request.id, request.spec, told)
        return workflow_pb2.WorkflowCreateResponse()

    def CreateLaunchPlan(self, request: Any, context: Any) -> Any:
        self.plans.check_new(request.id, request.spec)
        interface = self.workflows.spec(request.spec.workflow_id).template.interface
        told = launch_plan_pb2.LaunchPlan(spec=request.spec)
        told.closure.expected_inputs.CopyFrom(_expected(interface.inputs.variables, request.spec))
        told.closure.expected_outputs.CopyFrom(interface.outputs)
        self.plans.keep(request.id, request.spec, told)
        return launch_plan_pb2.LaunchPlanCreateResponse()

    def UpdateLaunchPlan(self, request: Any, context: Any) -> Any:
        """At most one version of a launch plan is active."""
        self.plans.find(request.id)
        for at, plan in self.plans.told.items():
            if at == key(request.id):
                plan.closure.state = request.state
            elif at[:3] == key(request.id)[:3] and request.state == launch_plan_pb2.ACTIVE:
                plan.closure.state = launch_plan_pb2.INACTIVE
        return launch_plan_pb2.LaunchPlanUpdateResponse()

    def GetTask(self, request: Any, context: Any) -> Any:
        return self.tasks.find(request.id)

    def GetWorkflow(self, request: Any, context: Any) -> Any:
        return self.workflows.find(request.id)

    def GetLaunchPlan(self, request: Any, context: Any) -> Any:
        return self.plans.find(request.id)

    def GetActiveLaunchPlan(self, request: Any, context: Any) -> Any:
        wanted = (request.id.project, request.id.domain, request.id.name)
        for plan in self._active(lambda at: at[:3] == wanted):
            return plan
        raise missing(f"No active launch plan could be found: {':'.join(wanted)}")

    def ListActiveLaunchPlans(self, request: Any, context: Any) -> Any:
        found, token = page(self._active(lambda at: at[:2] == (request.project, request.domain)), request, _fields)
        return launch_plan_pb2.LaunchPlanList(launch_plans=found, token=token)

    def _active(self, wanted: Callable[[Key], bool]) -> list[Any]:
        return [p for at, p in self.plans.told.items() if wanted(at) and p.closure.state == launch_plan_pb2.ACTIVE]

    def ListTasks(self, request: Any, context: Any) -> Any:
        found, token = self.tasks.page(request)
        return task_pb2.TaskList(tasks=found, token=token)

    def ListWorkflows(self, request: Any, context: Any) -> Any:
        found, token = self.workflows.page(request)
        return workflow_pb2.WorkflowList(workflows=found, token=token)

    def ListLaunchPlans(self, request: Any, context: Any) -> Any:
        found, token = self.plans.page(request)
        return launch_plan_pb2.LaunchPlanList(launch_plans=found, token=token)

    def ListTaskIds(self, request: Any, context: Any) -> Any:
        return self.tasks.names(request)

    def ListWorkflowIds(self, request: Any, context: Any) -> Any:
        return self.workflows.names(request)

    def ListLaunchPlanIds(self, request: Any, context: Any) -> Any:
        return self.plans.names(request)


def _expected(variables: Any, spec: launch_plan_pb2.LaunchPlanSpec) -> ParameterMap:
    """Inputs that an execution may give: all but fixed ones, and required if there is no default."""
    for name in (*spec.default_inputs.parameters, *spec.fixed_inputs.literals):
        if name not in variables:
            raise invalid(f"unexpected default or fixed input {name}")
    found = {}
    for name, variable in variables.items():
        if name in spec.fixed_inputs.literals:
            continue
        given = spec.default_inputs.parameters
        found[name] = given[name] if name in given else Parameter(var=variable, required=True)
    return ParameterMap(parameters=found)
