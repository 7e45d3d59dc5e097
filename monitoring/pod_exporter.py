"""What a pod says of itself where rank 0, which serves the run's metrics, runs in another pod."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from lehr.monitoring.gpus import Gpus
from lehr.monitoring.memory_gauges import show_memory
from lehr.monitoring.metrics import run as m
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.serving.exposition import Exposition
from lehr.monitoring.serving.server import LOG, Server, serve
from lehr.monitoring.usage import Usage

SHOWN = (m.POD_INFO, m.MEMORY_RESIDENT, m.MEMORY_PEAK, m.GPUS, m.GPU_MEMORY)
# Latencies are rank 0's alone: a histogram on every node of a fleet is more than it is worth.
COUNTED = tuple(metric for metric in m.METRICS if metric.counted and metric.kind == "counter")


@dataclass(frozen=True)
class Pod:
    """A pod of a run, and the rank of its first process; what is not known is ""."""

    stage: str
    namespace: str
    pod: str
    node: str
    first_rank: str


def show_pod(registry: Registry, pod: Pod) -> None:
    """The series by which others' figures of pods and nodes are joined with the run."""
    registry.of(m.POD_INFO, **asdict(pod)).set(1)


class PodExporter:
    """The metrics of one machine of a run: its pod, memory, GPUs, and the counts of its ranks."""

    def __init__(self, run: str, pod: Pod, gpus: Gpus | None = None) -> None:
        self._registry = Registry((*SHOWN, *COUNTED), {"run": run})
        self.exposition = Exposition(self._registry.prometheus, lambda: None)
        show_pod(self._registry, pod)
        show_memory(self._registry, Usage(gpus))
        self._server: Server | None = None

    def start(self, port: int, address: str, note: Callable[[str], None] = LOG.warning) -> str:
        """Serve them; returns the URL, "" if no port is available."""
        self._server, url = serve(address, port, self.exposition, lambda: (200, {"status": "ok"}), note)
        return url

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.stop()
            self._server = None
