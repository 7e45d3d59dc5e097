"""Metrics that Prometheus itself makes of others', by the rules of the chart (monitoring/rules/gpu.py).

The rules bring all spellings of their labels to one, so that they can be joined with `pod_info`.
"""

from __future__ import annotations

from lehr.monitoring.metrics.metric import Metric

DCGM = "NVIDIA's dcgm-exporter, and the chart's rules"


def _gpus(name: str, text: str) -> Metric:
    """One series a node: one a GPU would be half as many again as all of Lehr's own."""
    return Metric(f"lehr:node_gpu_{name}", "gauge", text, ("node",), bound=2048, needs=DCGM)


NODE_POWER = _gpus("power_watts", "Power that the GPUs of a node draw.")
NODE_TEMPERATURE = _gpus("temperature_celsius", "Temperature of a node's hottest GPU.")
GPUS_BUSY = Metric(
    "lehr:gpus_utilization_ratio", "gauge", "Share of time in which a GPU ran anything at all, mean over all.", (), needs=DCGM
)
GPUS_TENSOR = Metric(
    "lehr:gpus_tensor_active_ratio",
    "gauge",
    "Share of cycles in which tensor cores worked, mean over all.",
    (),
    needs=DCGM,
)
GPU_XID = Metric(
    "lehr:gpu_xid_code", "gauge", "Code of the last XID error of a GPU that had one.", ("node", "gpu"), bound=64, needs=DCGM
)
RUN_GPU_POWER = Metric(
    "lehr:run_gpu_power_watts", "gauge", "Power that all GPUs of a run's pods draw.", ("run",), bound=200, needs=DCGM
)

RECORDED: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
