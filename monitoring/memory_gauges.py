"""Memory of this machine's processes and GPUs as gauges that are read at each scrape, in the scraper's thread."""

from __future__ import annotations

from functools import partial

from lehr.monitoring.metrics import run as m
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.usage import Usage


def show_memory(registry: Registry, usage: Usage) -> None:
    """Costs training nothing."""
    registry.of(m.MEMORY_RESIDENT).set_function(usage.resident)
    registry.of(m.MEMORY_PEAK).set_function(usage.peak)
    for index in usage.gpus():
        registry.of(m.GPU_MEMORY, gpu=str(index)).set_function(partial(usage.gpu_used, index))
        registry.of(m.GPU_MEMORY_SIZE, gpu=str(index)).set_function(partial(usage.gpu_size, index))
