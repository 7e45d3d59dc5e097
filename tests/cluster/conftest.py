"""A real control plane for the whole session, with the controller's rights and policies in force. Never skipped: without the
binaries these tests fail and say what provides them, and a test here that skips itself fails."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import NODES, Api, ApiError
from lehr.infra.kube.transport import KubernetesTransport, connect
from tests.cluster.chart import objects
from tests.cluster.faults import Crash
from tests.cluster.kubelet import Cluster
from tests.cluster.objects import create, make_node, namespace
from tests.cluster.plane import ADMIN, ControlPlane, start
from tests.cluster.skips import pytest_runtest_makereport

if TYPE_CHECKING:
    from tests.cluster.engine_place import Place

__all__ = ["pytest_runtest_makereport"]

# What forks here runs another program at once: gRPC need not stop its threads for that, and could not while they are at work.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

TRAINING, OTHER = "training", "other"
ACCOUNT = f"system:serviceaccount:{NAMES.namespace}:lehr-controller"


@dataclass
class World:
    """The API server as an administrator sees it, and kubeconfigs of others."""

    plane: ControlPlane
    admin: Api
    controller_config: Path
    _made: list[KubernetesTransport] = field(default_factory=list)

    def transport(self, kubeconfig: Path) -> KubernetesTransport:
        made = connect(kubeconfig)
        self._made.append(made)
        return made

    def controller(self) -> KubernetesTransport:
        """Connections with the controller's own service account token."""
        return self.transport(self.controller_config)

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    plane = start(tmp_path_factory.mktemp("plane"))
    try:
        made = World(plane, Api(connect(plane.kubeconfig("admin", ADMIN))), Path())
        _install(made)
        yield made
        made.close()
    finally:
        plane.stop()


def _install(world: World) -> None:
    for name, managed in ((TRAINING, True), (OTHER, False)):
        create(world.admin, namespace(name, managed))
    for item in objects([TRAINING]):
        create(world.admin, item)
    eventually(lambda: world.admin.get(f"/apis/{NAMES.prefix}/v1/nodereports"), "the NodeReport type is served")
    account = f"/api/v1/namespaces/{NAMES.namespace}/serviceaccounts/lehr-controller/token"
    token = world.admin.create(account, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    world.controller_config = world.plane.kubeconfig("controller", token)
    make_node(world.admin, "fence", "fence", managed=False)
    eventually(lambda: _fenced(Api(world.controller())), "the admission policies are in force")
    for name in (TRAINING, OTHER, NAMES.namespace):  # pods are refused until the account is there
        eventually(lambda name=name: world.admin.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), "accounts exist")


def _fenced(api: Api) -> bool:
    try:
        api.merge(f"{NODES}/fence", {"metadata": {"labels": {NAMES.state_label: "healthy"}}})
    except ApiError as error:
        return "lehr-controller-nodes" in error.message
    return False


def eventually(check: object, what: str, seconds: float = 120.0) -> None:
    """Wait until `check()` is true, looking less and less often. ApiErrors count as not yet."""
    end, last, pause = time.monotonic() + seconds, "", 0.02
    while time.monotonic() < end:
        try:
            if check():  # type: ignore[operator]
                return
        except (ApiError, AssertionError) as error:
            last = str(error)
        time.sleep(pause)
        pause = min(1.2 * pause, 0.25 if seconds <= 120 else 1.0)
    raise AssertionError(f"not within {seconds:g} s: {what}. {last}")


@pytest.fixture(scope="session")
def cluster(world: World) -> Iterator[Cluster]:
    """The stand-ins for kubelets and engine, shared by all tests: node names never repeat."""
    made = Cluster(Api(world.transport(world.plane.kubeconfig("kubelet", ADMIN))))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def flyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Flyte's engine and the double of its control plane, on a cluster of their own for all tests of the session."""
    from tests.cluster.engine_place import place  # late: flytekit is not on every Python that these tests run on

    with place(tmp_path_factory.mktemp("engine")) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def quiet_crashes() -> Iterator[None]:
    """A thread that dies of an injected crash says nothing; every other one speaks up as usual."""
    usual = threading.excepthook

    def hook(args: threading.ExceptHookArgs, /) -> None:
        if not issubclass(args.exc_type, Crash):
            usual(args)

    threading.excepthook = hook
    yield
    threading.excepthook = usual
