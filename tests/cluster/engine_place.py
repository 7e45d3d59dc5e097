"""A cluster with Flyte's engine: its namespace as the chart prepares it, an S3 server that can be cut off, pods as processes,
the controller, and a double of flyteadmin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import Api, Object
from lehr.infra.kube.transport import connect
from tests.cluster.admin_double import AdminDouble, admin_double
from tests.cluster.chart import KINDS, render
from tests.cluster.conftest import eventually
from tests.cluster.engine import FLYTE_BUCKET, NAMESPACE, Engine, engine, program
from tests.cluster.engine_pods import EnginePod, EnginePods
from tests.cluster.forwarder import Forwarder, forwarder
from tests.cluster.installation import Home, home
from tests.cluster.job_pods import secret
from tests.cluster.objects import create, make_node, namespace
from tests.cluster.provide import JOB_TYPE
from tests.cluster.scenario import BASE, Life
from tests.cluster.submitted_runs import digests
from tests.cluster.training_operator import TrainingOperator
from tests.storage.s3_server import KEY, SECRET, seaweed

BUCKET, STORE = "runs", "store"
POOL, MACHINES = "fleet", ("m0", "m1", "m2", "m3")
APART_POOL, APART = "apart", ("apart0", "apart1")  # where machines may be taken away
ALL_KINDS = (*KINDS, "PodTemplate")


@dataclass
class Place:
    """What a test needs of it."""

    home: Home
    pods: EnginePods
    engine: Engine
    way: Forwarder
    address: str  # of the store, for pods and engine: may be cut off
    direct: str  # of the store itself
    operator: TrainingOperator
    flyteadmin: AdminDouble

    @property
    def admin(self) -> Api:
        return self.home.world.admin

    def client(self) -> Any:
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.direct, region_name="us-east-1", **keys)

    def digests(self, out: str) -> dict[str, str]:
        key = f"{out.removeprefix(f's3://{BUCKET}/')}/lineage.json"
        return digests(self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())

    def keys(self, out: str, prefix: str) -> list[str]:
        """What the store has of a run below `prefix`."""
        start = f"{out.removeprefix(f's3://{BUCKET}/')}/{prefix}"
        return [item["Key"] for item in self.client().list_objects_v2(Bucket=BUCKET, Prefix=start).get("Contents", [])]

    def delete(self, pod: EnginePod) -> None:
        self.home.kubectl("delete", "pod", "-n", NAMESPACE, pod.name, "--wait=false")

    def take_machine(self, pod: EnginePod) -> None:
        self.home.kubectl("delete", "node", pod.machine, "--wait=false")

    def why(self, execution: str) -> str:
        logs = [f"== {pod.name} {pod.ended}\n{pod.said()[-1500:]}" for pod in self.pods.of(execution)]
        return "\n".join([*self.pods.errors, *logs, self.engine.why(execution)])


@contextmanager
def place(folder: Path, kind: type[EnginePods] = EnginePods) -> Iterator[Place]:
    """Running, with four machines of the fleet and the controller. `kind` runs the pods."""
    (folder / "store").mkdir(parents=True)
    with seaweed(folder / "store") as direct, forwarder(direct) as way, home(folder / "home", kind) as made:
        assert isinstance(made.containers, EnginePods)
        address = f"http://127.0.0.1:{way.port}"
        _install(made, address)
        with (
            admin_double(made.world.admin, direct, FLYTE_BUCKET) as flyteadmin,
            engine(made.world.admin, made.kubeconfig, address, folder / "engine", flyteadmin.address) as running,
        ):
            operator = TrainingOperator(Api(connect(made.kubeconfig)), NAMESPACE)
            there = Place(made, made.containers, running, way, address, direct, operator, flyteadmin)
            for bucket in (BUCKET, FLYTE_BUCKET):
                there.client().create_bucket(Bucket=bucket)
            life = Life(connect(controller_config(made)), Settings.checked({**BASE, "namespaces": [NAMESPACE]}))
            try:
                yield there
            finally:
                life.stop()
                operator.stop()


def _install(made: Home, address: str) -> None:
    """As docs/fleet.md tells an operator: the namespace is Flyte's, keys are in a Secret that main containers alone have."""
    admin = made.world.admin
    made.kubectl("apply", "--server-side", "-f", program(JOB_TYPE))
    create(admin, namespace(NAMESPACE, managed=True))
    create(admin, secret(NAMESPACE, STORE, {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}))
    values: Object = {
        "training": {"namespaces": [{"name": NAMESPACE, "create": False}]},
        "store": {"endpointUrl": address, "region": "us-east-1", "existingSecret": STORE},
        "tasks": {"nodeSelector": {NAMES.pool_label: POOL}},
    }
    found = render(values)
    for kind in ALL_KINDS:
        for item in (item for item in found if item["kind"] == kind):
            create(admin, item)
    for machine in MACHINES:
        make_node(admin, machine, POOL)
    for machine in APART:
        make_node(admin, machine, APART_POOL)
    eventually(lambda: admin.get(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/lehr-task"), "accounts exist")


def controller_config(made: Home) -> Path:
    account = f"/api/v1/namespaces/{NAMES.namespace}/serviceaccounts/lehr-controller/token"
    token = made.world.admin.create(account, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    return made.world.plane.kubeconfig("controller", token)
