"""Recording rules of dcgm-exporter's metrics: one spelling, and joined with runs (helm/lehr/files/rules/gpu.yaml)."""

from __future__ import annotations

from lehr.monitoring.metrics import recorded as r
from lehr.monitoring.metrics.run import POD_INFO

_SPELLINGS = {"Hostname": "node", "hostname": "node", "exported_pod": "pod", "exported_namespace": "namespace"}
_HEAD = """# Written by `make dashboards` from monitoring/metrics/recorded.py. dcgm-exporter's metrics in one spelling: its
# node is `Hostname` or `hostname`; where Prometheus keeps its own labels, the pod that uses a GPU is `exported_pod`.
groups:
  - name: lehr-gpus
    rules:
"""


def rules() -> str:
    """The file."""
    power = _spelt("DCGM_FI_DEV_POWER_USAGE")
    made = [
        (r.NODE_POWER, f"sum by (node) ({power})"),
        (r.NODE_TEMPERATURE, f"max by (node) ({_spelt('DCGM_FI_DEV_GPU_TEMP')})"),
        (r.GPU_XID, f"max by (node, gpu) ({_spelt('DCGM_FI_DEV_XID_ERRORS')}) > 0"),
        (r.GPUS_BUSY, "avg(DCGM_FI_DEV_GPU_UTIL) / 100"),
        (r.GPUS_TENSOR, "avg(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE)"),
    ]
    pods = f"max by (namespace, pod, run) ({POD_INFO.name})"
    of_pods = f"sum by (namespace, pod) ({power})"
    made.append((r.RUN_GPU_POWER, f"sum by (run) ({of_pods} * on (namespace, pod) group_left (run) {pods})"))
    return _HEAD + "".join(f"      - record: {metric.name}\n        expr: |-\n          {text}\n" for metric, text in made)


def _spelt(text: str) -> str:
    for theirs, ours in _SPELLINGS.items():
        text = f'label_replace({text}, "{ours}", "$1", "{theirs}", "(.+)")'
    return text
