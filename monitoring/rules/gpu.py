"""dcgm-exporter's metrics in one spelling, and joined with runs.

It names its node `Hostname` or, since May 2026, `hostname`; where Prometheus keeps its own labels, the pod that uses a GPU is
`exported_pod`, and `pod` is the exporter's. Written to helm/lehr/files/rules/gpu.yaml.
"""

from __future__ import annotations

from lehr.monitoring.metrics import recorded as r
from lehr.monitoring.metrics.run import POD_INFO
from lehr.monitoring.rules.rule import Recording

_SPELLINGS = {"Hostname": "node", "hostname": "node", "exported_pod": "pod", "exported_namespace": "namespace"}


def recordings() -> list[Recording]:
    """The rules of `lehr.monitoring.metrics.recorded`."""
    power = _spelt("DCGM_FI_DEV_POWER_USAGE")
    pods = f"max by (namespace, pod, run) ({POD_INFO.name})"
    of_runs = f"sum by (namespace, pod) ({power}) * on (namespace, pod) group_left (run) {pods}"
    return [
        Recording(r.NODE_POWER.name, f"sum by (node) ({power})"),
        Recording(r.NODE_TEMPERATURE.name, f"max by (node) ({_spelt('DCGM_FI_DEV_GPU_TEMP')})"),
        Recording(r.GPU_XID.name, f"max by (node, gpu) ({_spelt('DCGM_FI_DEV_XID_ERRORS')}) > 0"),
        Recording(r.GPUS_BUSY.name, "avg(DCGM_FI_DEV_GPU_UTIL) / 100"),
        Recording(r.GPUS_TENSOR.name, "avg(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE)"),
        Recording(r.RUN_GPU_POWER.name, f"sum by (run) ({of_runs})"),
    ]


def _spelt(text: str) -> str:
    for theirs, ours in _SPELLINGS.items():
        text = f'label_replace({text}, "{ours}", "$1", "{theirs}", "(.+)")'
    return text
