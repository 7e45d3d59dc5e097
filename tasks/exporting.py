"""Where a process's metrics are served. Outside a pod on loopback; in a pod on all its addresses, at a port that has a name, by
one process of each pod: rank 0 serves the run's, the first rank of every other pod those of its machine."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable

from lehr.config.recipe import Recipe
from lehr.infra.pod.pod_request import run_name
from lehr.infra.pod.pod_template import (
    METRICS_PORT,
    NODE_NAME,
    POD_NAME,
    POD_NAMESPACE,
    RUN_NAME,
    STAGE_NAME,
)
from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.gpus import Gpus
from lehr.monitoring.metrics import run as m
from lehr.monitoring.pod_exporter import Pod, PodExporter
from lehr.report.footprint import JOULES_PER_KWH
from lehr.runtime import counters
from lehr.runtime.environment import amount, whole
from lehr.runtime.rank_environment import hosts
from lehr.tasks.refs import RunRef
from lehr.tasks.termination import in_pod

# Environment variables.
ADDRESS, PORT, LAST_SCRAPE = "LEHR_METRICS_ADDRESS", "LEHR_METRICS_PORT", "LEHR_METRICS_LAST_SCRAPE_SECONDS"
LAST_SCRAPE_SECONDS = 20.0  # for which a pod's end waits for Prometheus: one interval of 15 s, and a little


def about(run: RunRef, recipe: Recipe, recipe_sha256: str) -> About:
    """What the exporter says of the run itself."""
    site, hardware = recipe.site, recipe.hardware
    return About(
        run_name(recipe.name, run.key),
        recipe.name,
        recipe.model.family,
        recipe_sha256,
        run.root.rpartition("/")[2],
        {
            m.SITE_PUE: site.pue,
            m.SITE_CARBON: 1000 * site.carbon_kg_per_kwh / JOULES_PER_KWH,
            m.SITE_WATER: site.water_liters_per_kwh / JOULES_PER_KWH,
        },
        hardware.peak_tflops * 1e12 * hardware.count if hardware else 0.0,
        hosts(),
    )


def serve(exporter: PrometheusTracker, port: int, note: Callable[[str], None]) -> str:
    """Serve the metrics of a run; returns the URL, "" if there is none. `port` is the user's wish, 0 for none. In a pod the
    process waits at its end until its last values have been fetched, or for LAST_SCRAPE_SECONDS."""
    if not in_pod():
        return exporter.start(port, note=note)
    exporter.show_pod(pod())
    return exporter.start(port or pod_port(), pod_address(), note, amount(LAST_SCRAPE, LAST_SCRAPE_SECONDS))


def follow() -> PodExporter | None:
    """In the first rank of a pod in which rank 0 does not run: serve what concerns the machine. None everywhere else."""
    if not in_pod() or os.environ.get("RANK", "0") == "0" or os.environ.get("LOCAL_RANK", "0") != "0":
        return None
    exporter = PodExporter(os.environ.get(RUN_NAME, ""), pod(), Gpus.here())
    exporter.start(pod_port(), pod_address())
    return exporter


def pod() -> Pod:
    """This pod, as the downward API names it."""
    read = os.environ.get
    return Pod(read(STAGE_NAME, ""), read(POD_NAMESPACE, ""), read(POD_NAME, ""), read(NODE_NAME, ""), str(whole("RANK", 0)))


def pod_port() -> int:
    """The port that monitors look for in a pod."""
    return whole(PORT, METRICS_PORT)


def pod_address() -> str:
    """What a pod listens on: all addresses, of both families where it has both, unless the environment names one."""
    return os.environ.get(ADDRESS) or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")


class SharedCounts:
    """A folder where ranks that this process starts put their counts, for its exporter. Under a supervisor, which has named
    one, nothing."""

    def __init__(self) -> None:
        self._own = "" if os.environ.get(counters.FOLDER) else tempfile.mkdtemp(prefix="counts-")
        if self._own:
            os.environ[counters.FOLDER] = self._own

    def close(self) -> None:
        """Remove it."""
        if self._own:
            os.environ.pop(counters.FOLDER, None)
            shutil.rmtree(self._own, ignore_errors=True)
