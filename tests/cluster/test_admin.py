"""`pyflyte register` and FlyteRemote, as they are, against the double of flyteadmin and the real engine."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

import grpc
from flyteidl.admin import common_pb2, event_pb2, execution_pb2, workflow_pb2
from flyteidl.core.execution_pb2 import WorkflowExecution as Phases
from flyteidl.core.identifier_pb2 import LAUNCH_PLAN, Identifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flytekit import Annotations, Labels
from flytekit.configuration import Config
from flytekit.core.options import Options
from flytekit.exceptions.user import FlyteEntityNotExistException
from flytekit.models.security import Identity, SecurityContext
from flytekit.remote import FlyteRemote

from lehr.infra.kube.api import ApiError
from tests.cluster.admin_lists import DOMAIN, PROJECT
from tests.cluster.conftest import eventually
from tests.cluster.engine import NAMESPACE, WORKFLOWS
from tests.cluster.engine_place import Place
from tests.cluster.kubelet import pods_path
from tests.cluster.submitted_runs import local_digests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
RECIPE, RUN, VERSION = Path(__file__).with_name("admin.yaml"), "lehr.workflows.run.run", "v1"
CHECKOUT = ("--copy", "none", "workflows")


def register(flyte: Place, folder: Path, *what: str, version: str = VERSION, root: Path = ROOT) -> str:
    """What `pyflyte register` prints, which must end well."""
    command = [str(Path(sys.executable).with_name("pyflyte")), "register", "-p", PROJECT, "-d", DOMAIN, "--version", version]
    command += ["--image", "lehr:test", *what]
    environment = {**flyte.flyteadmin.environment(), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{flyte.flyteadmin.answers.errors}"
    return done.stdout


@pytest.fixture(scope="module")
def registered(flyte: Place, tmp_path_factory: pytest.TempPathFactory) -> str:
    return register(flyte, tmp_path_factory.mktemp("first"), *CHECKOUT)


@pytest.fixture(scope="module")
def remote(flyte: Place, registered: str) -> FlyteRemote:
    config = Config.for_endpoint(flyte.flyteadmin.address, insecure=True)
    return FlyteRemote(config, default_project=PROJECT, default_domain=DOMAIN)


@pytest.fixture(scope="module")
def stub(flyte: Place, registered: str) -> Iterator[AdminServiceStub]:
    """The calls themselves, where flytekit says too little of an answer."""
    with grpc.insecure_channel(flyte.flyteadmin.address) as channel:
        yield AdminServiceStub(channel)


@pytest.fixture(autouse=True)
def no_mistake(flyte: Place) -> Iterator[None]:
    yield
    assert not flyte.flyteadmin.answers.errors


def refused(call: Any, request: Any) -> tuple[str, str]:
    """The code and the message of an answer."""
    with pytest.raises(grpc.RpcError) as error:
        call(request)
    return error.value.code().name, error.value.details()


def test_a_checkout_registers_and_does_so_again(flyte: Place, registered: str, remote: FlyteRemote, tmp_path: Path) -> None:
    assert "Successfully registered" in registered
    names = {task.id.name for task in remote.list_tasks_by_version(VERSION)}
    assert names > {"lehr.workflows.run.stages", "lehr.tasks.stages.ranked"}
    workflow = remote.fetch_workflow(name=RUN)  # the newest version
    assert (workflow.id.version, [node.id for node in workflow.flyte_nodes]) == (VERSION, ["n0"])
    assert set(workflow.interface.inputs) == {"recipe", "out", "overrides"}
    kinds = (flyte.flyteadmin.admin.tasks, flyte.flyteadmin.admin.workflows, flyte.flyteadmin.admin.plans)
    before = [dict(kind.told) for kind in kinds]
    assert register(flyte, tmp_path, *CHECKOUT).splitlines()[-1] == registered.splitlines()[-1]
    assert [kind.told for kind in kinds] == before


@pytest.mark.long
def test_a_run_has_the_digests_of_a_laptop_and_its_nodes_are_told(flyte: Place, remote: FlyteRemote, tmp_path: Path) -> None:
    plan, out = remote.fetch_launch_plan(name=RUN, version=VERSION), "s3://runs/remote"
    given = {"recipe": str(RECIPE), "out": out}
    execution = remote.execute(plan, inputs=given, execution_name="remote")
    expected = local_digests(tmp_path / "run", RECIPE)  # while the pods start
    assert flyte.flyteadmin.ended("remote") == "SUCCEEDED", flyte.why("remote")
    assert flyte.digests(out) == expected
    again = remote.execute(plan, inputs=given, execution_name="remote")
    execution = remote.wait(execution, poll_interval=1)
    assert again.id == execution.id and execution.is_successful and execution.error is None
    assert execution.inputs["overrides"] == [] and execution.outputs["o0"] == f"{out}/report.html"
    inside = execution.node_executions["n0"].subworkflow_node_executions
    stages = {node.metadata.spec_node_id: node for node in inside.values() if node.task_executions}
    assert set(stages) == {*expected, "report"} and all(len(node.task_executions) == 1 for node in stages.values())
    assert stages["stage1"].outputs["o0"]["digest"] == expected["stage1"]
    assert execution.id in [one.id for one in remote.recent_executions(limit=5)]
    assert remote.generate_console_url(execution).endswith("/executions/remote")


def test_what_is_wrong_is_refused_with_the_compilers_words(flyte: Place, remote: FlyteRemote, stub: AdminServiceStub) -> None:
    with pytest.raises(FlyteEntityNotExistException):
        remote.fetch_launch_plan(name=RUN, version="none")
    assert refused(stub.CreateExecution, _asked("nobody", {}, "no.such.plan"))[0] == "NOT_FOUND"
    identifier = remote.fetch_workflow(name=RUN, version=VERSION).id.to_flyte_idl()
    spec = flyte.flyteadmin.admin.workflows.spec(identifier)
    again = workflow_pb2.WorkflowCreateRequest(id=identifier, spec=spec)
    assert refused(stub.CreateWorkflow, again)[0] == "ALREADY_EXISTS"
    again.spec.template.nodes[0].inputs[0].binding.promise.node_id = "nowhere"
    code, said = refused(stub.CreateWorkflow, again)
    assert code == "INVALID_ARGUMENT" and "different structure" in said
    again.id.version = "broken"
    code, said = refused(stub.CreateWorkflow, again)
    assert code == "INVALID_ARGUMENT" and "nowhere" in said
    again.id.project = "other"
    assert "project [other]" in refused(stub.CreateWorkflow, again)[1]


@pytest.mark.parametrize(
    ("name", "plan", "inputs", "words"),
    [
        ("wrong", RUN, {"recipe": Literal(scalar=Scalar(primitive=Primitive(integer=3)))}, "recipe"),
        ("unknown", RUN, {"recipes": Literal()}, "invalid input recipes"),
        ("fixed", "lehr.tiny.olmo2", {"recipe": Literal()}, "fixed_inputs recipe cannot be overridden"),
        ("1st", RUN, {}, "invalid name format: 1st"),
        ("a" * 64, RUN, {}, "exceeded length 63"),
    ],
)
def test_an_execution_that_cannot_start_is_refused(
    flyte: Place, stub: AdminServiceStub, name: str, plan: str, inputs: dict[str, Literal], words: str
) -> None:
    code, said = refused(stub.CreateExecution, _asked(name, inputs, plan))
    assert code == "INVALID_ARGUMENT" and words in said, said
    assert name not in flyte.flyteadmin.admin.runs and not flyte.pods.of(name)


def _asked(name: str, inputs: dict[str, Literal], plan: str = RUN) -> execution_pb2.ExecutionCreateRequest:
    asked = execution_pb2.ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, name=name)
    identifier = Identifier(resource_type=LAUNCH_PLAN, project=PROJECT, domain=DOMAIN, name=plan, version=VERSION)
    asked.spec.launch_plan.CopyFrom(identifier)
    for key, value in inputs.items():
        asked.inputs.literals[key].CopyFrom(value)
    return asked


def test_lists_have_filters_an_order_and_pages(stub: AdminServiceStub) -> None:
    asked = common_pb2.ResourceListRequest(id=common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN), limit=4)
    asked.filters = f"eq(version,{VERSION})"
    asked.sort_by.key = "name"  # descending
    first = stub.ListTasks(asked)
    asked.token = first.token
    second = stub.ListTasks(asked)
    names = [task.id.name for task in (*first.tasks, *second.tasks)]
    assert names == sorted(names, reverse=True) and len(set(names)) == len(names) > 4
    assert first.token == "4" and len(first.tasks) == 4
    asked.filters, asked.token = f"contains(name,ranked)+ne(version,{VERSION})", ""
    assert not stub.ListTasks(asked).tasks
    asked.filters = "gt(name,a)"
    assert refused(stub.ListTasks, asked)[0] == "INVALID_ARGUMENT"


def test_a_cancelled_run_leaves_no_pod_and_says_why(flyte: Place, remote: FlyteRemote, stub: AdminServiceStub) -> None:
    plan = remote.fetch_launch_plan(name=RUN, version=VERSION)
    given = {"recipe": str(RECIPE), "out": "s3://runs/cancelled"}
    who = SecurityContext(run_as=Identity(k8s_service_account="lehr-task"))
    options = Options(
        labels=Labels({"team": "a"}), annotations=Annotations({"why": "b"}), max_parallelism=3, security_context=who
    )
    asked = {
        "execution_name": "cancelled",
        "options": options,
        "overwrite_cache": True,
        "interruptible": True,
        "envs": {"C": "d"},
    }
    execution = remote.execute(plan, inputs=given, **asked)
    assert refused(stub.CreateExecution, _asked("cancelled", {}))[0] == "ALREADY_EXISTS"
    eventually(lambda: flyte.pods.of("cancelled"), "a pod of it is there", 60)
    pod = flyte.pods.of("cancelled")[0]
    assert pod.labels["team"] == "a" and pod.pod["spec"]["serviceAccountName"] == "lehr-task"
    assert pod.pod["metadata"]["annotations"]["why"] == "b" and {"name": "C", "value": "d"} in pod.spec["env"]
    config = flyte.admin.get(f"{WORKFLOWS}/cancelled")["executionConfig"]
    assert (config["MaxParallelism"], config["OverwriteCache"], config["Interruptible"]) == (3, True, True)
    remote.terminate(execution, "not needed any more")
    assert flyte.flyteadmin.ended("cancelled", 60) == "ABORTED"
    assert flyte.flyteadmin.execution("cancelled").closure.abort_metadata.cause == "not needed any more"
    assert flyte.flyteadmin.nodes("cancelled")["n0"] == "ABORTED"
    eventually(lambda: not flyte.admin.items(pods_path(NAMESPACE), {"labelSelector": "execution-id=cancelled"}), "no pod", 60)
    eventually(lambda: _gone(flyte, f"{WORKFLOWS}/cancelled"), "no object of the engine's", 60)
    ended = execution_pb2.ExecutionTerminateRequest(id=execution.id.to_flyte_idl(), cause="again")
    assert refused(stub.TerminateExecution, ended)[0] == "FAILED_PRECONDITION"
    _late_events(stub, ended.id)
    again = stub.RelaunchExecution(execution_pb2.ExecutionRelaunchRequest(id=ended.id, name="again")).id
    data = stub.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=again)).full_inputs
    assert data.literals["out"].scalar.primitive.string_value == "s3://runs/cancelled" and len(data.literals) == 3
    stub.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=again, cause="it has started"))


def _late_events(stub: AdminServiceStub, identifier: WorkflowExecutionIdentifier) -> None:
    """What the engine says of a run that has ended; and of one that was started beside the double, which is nothing to it."""
    event = event_pb2.WorkflowExecutionEventRequest()
    event.event.execution_id.CopyFrom(identifier)
    event.event.phase = Phases.ABORTED
    assert refused(stub.CreateWorkflowEvent, event)[0] == "ALREADY_EXISTS"
    event.event.phase = Phases.RUNNING
    with pytest.raises(grpc.RpcError) as error:
        stub.CreateWorkflowEvent(event)
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    assert error.value.code().name == "FAILED_PRECONDITION" and b"EventFailureReason" in details
    event.event.execution_id.name = "others"
    stub.CreateWorkflowEvent(event)


def _gone(flyte: Place, path: str) -> bool:
    try:
        flyte.admin.get(path)
    except ApiError as error:
        return error.status == 404
    return False


def test_code_that_is_in_no_image_is_brought_by_the_registration(flyte: Place, remote: FlyteRemote, tmp_path: Path) -> None:
    """`--copy all`: through an address that the double signs, and out of the store into the pod."""
    code = """
    from flytekit import task, workflow
    from lehr.tasks.requests import default
    from lehr.tasks.stages import settings

    @task(**settings(default("cpu")))
    def say(word: str) -> str:
        return f"{word} from code that came with the registration"

    @workflow
    def brought(word: str = "words") -> str:
        return say(word=word)
    """
    (tmp_path / "tmp").mkdir()
    (tmp_path / "brought_code.py").write_text(textwrap.dedent(code))
    copied = ("--copy", "all", "--destination-dir", "/tmp", "brought_code.py")
    register(flyte, tmp_path / "tmp", *copied, version="fast", root=tmp_path)
    plan = remote.fetch_launch_plan(name="brought_code.brought")
    execution = remote.execute(plan, inputs={}, execution_name="brought")
    assert flyte.flyteadmin.ended("brought", 120) == "SUCCEEDED", flyte.why("brought")
    assert remote.wait(execution).outputs["o0"] == "words from code that came with the registration"
