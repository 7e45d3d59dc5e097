"""Metrics that Prometheus itself makes of others', by the rules of the chart (helm/lehr/files/rules/gpu.yaml).

dcgm-exporter names its node `Hostname` or, since May 2026, `hostname`; where Prometheus keeps its own labels, the pod that uses
a GPU is `exported_pod`. The rules bring all spellings to one, so that they can be joined with `pod_info`.
"""

from __future__ import annotations

from lehr.monitoring.metrics.metric import Metric

DCGM = "NVIDIA's dcgm-exporter, and the chart's rules"
GPU_LABELS = ("node", "gpu", "namespace", "pod")


def _gpu(name: str, text: str) -> Metric:
    return Metric(f"lehr:gpu_{name}", "gauge", text, GPU_LABELS, bound=8 * 2048, needs=DCGM)


GPU_POWER = _gpu("power_watts", "Power that a GPU draws.")
GPU_TEMPERATURE = _gpu("temperature_celsius", "Temperature of a GPU.")
GPU_BUSY = _gpu("utilization_ratio", "Share of time in which a GPU ran anything at all.")
GPU_TENSOR = _gpu("tensor_active_ratio", "Share of cycles in which a GPU's tensor cores worked.")
GPU_XID = _gpu("xid_code", "Code of the last XID error of a GPU that had one.")
RUN_GPU_POWER = Metric(
    "lehr:run_gpu_power_watts", "gauge", "Power that all GPUs of a run's pods draw.", ("run",), bound=200, needs=DCGM
)

RECORDED: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
