"""One small fleet with bad nodes in it, controllers that live and die, and what must be true in the end."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lehr.infra.controller.node_commands import NodeInfo, info
from lehr.infra.controller.reconciler import Controller
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.kube.api import NODES
from lehr.infra.kube.transport import Transport
from tests.cluster.conftest import OTHER, TRAINING, World, eventually
from tests.cluster.faults import Crash, Faulty, Plan
from tests.cluster.kubelet import Behaviour, Cluster, bad_verdict, pods_path
from tests.cluster.objects import bystander, gated_pod, make_node, sweep

NUMBERS = itertools.count()
BASE = {"namespaces": [TRAINING], "lease_seconds": 1.0, "renew_seconds": 0.1, "resync_seconds": 0.5, "relist_seconds": 1.0,
        "metrics_port": 0, "identity": "test"}  # fmt: skip


class Life:
    """A controller in a thread, from its start to its stop or crash."""

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.log: list[str] = []
        self.controller = Controller(transport, settings, log=write or self.log.append, clock=clock)
        self.transport = transport
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.controller.run()
        except Crash:
            return
        except BaseException as error:  # noqa: BLE001 - shown by `stop`
            if not self.crashed(0):  # its loop may notice that its watches are dead before it dies itself
                self.failure = error

    def crashed(self, seconds: float) -> bool:
        """True once the process is dead, by whichever thread died of it first."""
        return isinstance(self.transport, Faulty) and self.transport.dead.wait(seconds)

    def stop(self) -> None:
        self.controller.stop()
        self._thread.join(10)
        if self.failure is not None:
            raise self.failure


@dataclass
class Scenario:
    """`bad` of the first three nodes fail their preflight; two more are spare. Use as a context manager."""

    world: World
    cluster: Cluster
    bad: tuple[int, ...] = (0,)
    message: Callable[[], str | None] = lambda: encode(bad_verdict())
    hold_seconds: float = 120.0
    settings: dict[str, object] = field(default_factory=dict)
    jobs: int = 3
    spares: int = 2

    def __post_init__(self) -> None:
        self.pool = f"p{next(NUMBERS)}"
        self.nodes = [f"{self.pool}-{i}" for i in range(self.jobs + self.spares)]
        self.bad_nodes = {self.nodes[i] for i in self.bad}
        self.fired: Counter[str] = Counter()
        self.lives: list[Life] = []
        self.first_uids: dict[str, str] = {}

    def __enter__(self) -> Scenario:
        api = self.world.admin
        for name in self.nodes:
            self.cluster.behaviours[name] = Behaviour(hold_seconds=self.hold_seconds)
            if name in self.bad_nodes:
                self.cluster.behaviours[name].message = self.message
                self.cluster.behaviours[name].test = lambda: encode(bad_verdict())
            make_node(api, name, self.pool)
        self.cluster.make_pod = lambda namespace, execution, n: gated_pod(namespace, execution, n, self.pool)
        # Somebody else's pods, on a bad and on a good node.
        for number in (0, 1):
            made = api.create(pods_path(OTHER), bystander(OTHER, f"{self.pool}-by{number}", self.nodes[number]))
            self.first_uids[made["metadata"]["name"]] = made["metadata"]["uid"]
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for life in self.lives:
                life.stop()
        finally:
            self.cluster.make_pod = None
            sweep(self.world.admin, (TRAINING, OTHER), self.pool)

    def execution(self, number: int) -> str:
        return f"{self.pool}-e{number}"

    def submit(self) -> None:
        """The first attempts start on the first nodes; whatever comes later goes where the scheduler puts it."""
        for i in range(self.jobs):
            pod = gated_pod(TRAINING, self.execution(i), 0, self.pool, self.nodes[i])
            self.first_uids[self.execution(i)] = self.world.admin.create(pods_path(TRAINING), pod)["metadata"]["uid"]

    def live(self, plan: Plan | None = None, **settings: object) -> Life:
        """Start a controller behind the faults of `plan`."""
        transport: Transport = self.world.controller()
        if plan is not None:
            transport = Faulty(transport, plan, self.fired)
        life = Life(transport, Settings.checked({**BASE, **self.settings, **settings}))
        self.lives.append(life)
        return life

    def node(self, name: str) -> NodeInfo:
        return info(self.world.admin.get(f"{NODES}/{name}"))

    # -- what must be true

    def settled(self, bad: set[str] | None = None) -> bool:
        """The bad nodes are cordoned and every execution runs elsewhere."""
        bad = self.bad_nodes if bad is None else bad
        for name in bad:
            if not self.node(name).cached.unschedulable:
                return False
        return all(self.runs_on(i) not in {"", *bad} for i in range(self.jobs))

    def runs_on(self, number: int) -> str:
        pods = self.world.admin.items(pods_path(TRAINING), {"labelSelector": f"execution-id={self.execution(number)}"})
        running = [p for p in pods if p["status"].get("phase") == "Running" and not p["metadata"].get("deletionTimestamp")]
        return str(running[0]["spec"]["nodeName"]) if len(running) == 1 else ""

    def wait(self, bad: set[str] | None = None, seconds: float = 120.0) -> None:
        eventually(lambda: self.settled(bad), f"{self.pool}: {bad or self.bad_nodes} cordoned and all running", seconds)

    def check(self, bad: set[str] | None = None, gone: set[str] | None = None) -> None:
        """The right nodes are ours, with their reason; nothing else was touched; no attempt followed onto a bad node."""
        bad = self.bad_nodes if bad is None else bad
        eventually(lambda: self._marks(bad), f"{self.pool}: marks of {bad}", 60.0)
        for name in set(self.nodes) - bad - (gone or set()):
            node = self.node(name)
            assert not node.cached.unschedulable and node.cordon is None, f"{name} was cordoned: {node.reason}"
            # A node that has just come is not ready for a moment, and Kubernetes says so.
            tainted = [t for t in node.cached.taints if not t["key"].startswith("node.kubernetes.io/")]
            assert not tainted and node.cached.own_condition[0] != "True", (name, node.cached)
        self.check_pods(bad | (gone or set()))

    def _marks(self, bad: set[str]) -> bool:
        for name in bad:
            node = self.node(name)
            record = node.cached.record
            assert node.cached.unschedulable and record is not None and node.cordon is not None, name
            assert len(record.quarantines) == 1, f"{name}: {record.quarantines}"
            assert node.cached.own_condition[0] == "True", f"{name}: condition {node.cached.own_condition}"
            assert node.cached.labels[NAMES.state_label] in ("quarantined", "revalidating", "repair"), name
            assert node.cordon.execution.startswith(self.pool), node.cordon
        return True

    def check_pods(self, bad: set[str]) -> None:
        for i in range(self.jobs):
            attempts = self.cluster.of_execution(self.execution(i))
            landed = [a.node for a in attempts if a.node in bad]
            assert len(landed) == len(set(landed)), f"{self.execution(i)} came back to a bad node: {landed}"
            assert [a.ended for a in attempts[:-1]] == ["deleted"] * (len(attempts) - 1), attempts
            if self.nodes[i] not in bad:
                assert attempts[0].uid == self.first_uids[self.execution(i)] and len(attempts) == 1, f"{attempts} was touched"
        for name in (n for n in self.first_uids if "-by" in n):
            pod = self.world.admin.get(pods_path(OTHER, name))
            assert pod["metadata"]["uid"] == self.first_uids[name] and not pod["metadata"].get("deletionTimestamp")
