"""A controller's memory while pods come and go: `python -m benchmarks.controller_memory [--pods 150000] [--nodes 2048]`.

Its own tables, views, decisions and metrics, fed as its watches feed them; no API server. One pod in a thousand has a slow
check, so that records grow. Prints the resident memory after every tenth part: it should stand still.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path
from typing import Any

from lehr.infra.controller.objects import node_object, pod_object
from lehr.infra.controller.reconciler import Controller
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import Outcome, Verdict
from lehr.infra.kube.transport import Reply, Request, Stream

ROUND = 2000  # pods between two rounds
PASS = encode(Verdict(Outcome.PASS, "1"))


class Nowhere:
    """No API server."""

    def send(self, request: Request) -> Reply:
        return Reply(500, {}, b"{}")

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        return self.send(request), None


def node(number: int) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    meta = {"name": f"n{number}", "uid": f"u{number}", "resourceVersion": str(number + 1)}
    return {"metadata": {**meta, "labels": {NAMES.managed_label: "true"}}, "spec": {}, "status": {"conditions": [ready]}}


def pod(number: int, version: int, nodes: int) -> dict[str, Any]:
    slow = Verdict(Outcome.PERFORMANCE_FAILURE, "1", "bandwidth", "H2DBandwidthLow", "x" * 200, True, time.time())
    ended = {"exitCode": 0, "message": encode(slow) if number % 997 == 0 else PASS}
    preflight = {"name": NAMES.preflight_container, "state": {"terminated": ended}}
    meta = {"name": f"p{number}", "namespace": "training", "uid": f"{number:036d}", "resourceVersion": str(version)}
    spec = {"nodeName": f"n{number % nodes}", "initContainers": [{"name": NAMES.preflight_container}], "containers": []}
    return {"metadata": meta, "spec": spec, "status": {"phase": "Running", "initContainerStatuses": [preflight]}}


def resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=150_000)
    parser.add_argument("--nodes", type=int, default=2048)
    arguments = parser.parse_args()
    controller = Controller(Nowhere(), Settings(namespaces=("training",), dry_run=True))
    state, table = controller.state, controller.state.pods["training"]
    for number in range(arguments.nodes):
        state.nodes.put(node_object(node(number), "nvidia.com/gpu"))
    for number in range(arguments.pods):
        version = arguments.nodes + 2 * number + 1
        table.put(pod_object(pod(number, version, arguments.nodes), "nvidia.com/gpu", ()))
        old = number - arguments.nodes
        if old >= 0:
            table.drop(f"training/p{old}", f"{old:036d}", version + 1)
        if number % ROUND == ROUND - 1:
            controller.round(state.dirty.take(0), resync=True)
        if (number + 1) % (arguments.pods // 10) == 0:
            print(f"{number + 1:>8,} pods: {resident_mib():.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
