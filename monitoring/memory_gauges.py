"""Memory of this machine's processes and GPUs as gauges that are read at each scrape, in the scraper's thread."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.usage import Usage


def show_memory(registry: Registry, usage: Usage) -> None:
    """Costs training nothing."""
    registry.of(m.MEMORY_RESIDENT).set_function(usage.resident)
    registry.of(m.MEMORY_PEAK).set_function(usage.peak)
    if gpus := usage.gpus():
        registry.of(m.GPUS).set(len(gpus))
        registry.of(m.GPU_MEMORY).set_function(lambda: max(usage.gpu_used(index) / usage.gpu_size(index) for index in gpus))
        if registry.has(m.GPU_MEMORY_SIZE):
            registry.of(m.GPU_MEMORY_SIZE).set(usage.gpu_size(gpus[0]))
