"""Recording rules of dcgm-exporter's metrics: one spelling, and joined with runs (helm/lehr/files/rules/gpu.yaml)."""

from __future__ import annotations

from lehr.monitoring.metrics import Metric
from lehr.monitoring.metrics import recorded as r
from lehr.monitoring.metrics.run import POD_INFO

_SPELLINGS = {"Hostname": "node", "hostname": "node", "exported_pod": "pod", "exported_namespace": "namespace"}
_PERCENT = " / 100"
_OF: dict[Metric, tuple[str, str]] = {
    r.GPU_POWER: ("DCGM_FI_DEV_POWER_USAGE", ""),
    r.GPU_TEMPERATURE: ("DCGM_FI_DEV_GPU_TEMP", ""),
    r.GPU_BUSY: ("DCGM_FI_DEV_GPU_UTIL", _PERCENT),
    r.GPU_TENSOR: ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", ""),
    r.GPU_XID: ("DCGM_FI_DEV_XID_ERRORS", " > 0"),
}
_HEAD = """# Written by `make dashboards` from monitoring/metrics/recorded.py. dcgm-exporter's metrics in one spelling: its
# node is `Hostname` or `hostname`; where Prometheus keeps its own labels, the pod that uses a GPU is `exported_pod`.
groups:
  - name: lehr-gpus
    rules:
"""


def rules() -> str:
    """The file."""
    by = ", ".join(r.GPU_LABELS)
    made = [(metric, f"max by ({by}) ({_spelt(name)}){scale}") for metric, (name, scale) in _OF.items()]
    pods = f"max by (namespace, pod, run) ({POD_INFO.name})"
    made.append(
        (r.RUN_GPU_POWER, f"sum by (run) ({r.GPU_POWER.name} * on (namespace, pod) group_left (run) {pods})"),
    )
    return _HEAD + "".join(f"      - record: {metric.name}\n        expr: |-\n          {text}\n" for metric, text in made)


def _spelt(text: str) -> str:
    for theirs, ours in _SPELLINGS.items():
        text = f'label_replace({text}, "{ours}", "$1", "{theirs}", "(.+)")'
    return text
