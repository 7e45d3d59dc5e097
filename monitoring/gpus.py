"""The GPUs that this process may use, read through NVML."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lehr.runtime.environment import digits

LOG = logging.getLogger("lehr.monitoring")


@dataclass(frozen=True)
class Reading:
    """One GPU, with NVML's index. Memory in bytes, of all processes that use the GPU; `busy` is the share of time in which a
    kernel ran, in [0, 1]. Values that the driver does not report are None."""

    index: int
    used: int | None = None
    total: int | None = None
    busy: float | None = None
    watts: float | None = None
    most_watts: float | None = None


def load() -> Any:
    """The pynvml module, initialised. Raises its errors if the GPU, the driver or the package is missing."""
    ctypes.CDLL("libnvidia-ml.so.1")  # fails fast without a driver: importing pynvml is slow, and would fail only later
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    return nvml


def listed() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, by number or UUID."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [name.strip() for name in names if name.strip() and name.strip() != "-1"]


def visible(nvml: Any) -> list[Any]:
    """Handles of the GPUs in CUDA_VISIBLE_DEVICES, which NVML itself ignores. Raises NVML's errors."""
    everything = "CUDA_VISIBLE_DEVICES" not in os.environ
    names = [str(i) for i in range(nvml.nvmlDeviceGetCount())] if everything else listed()
    indices = [digits(name) for name in names]
    return [
        nvml.nvmlDeviceGetHandleByUUID(name) if index is None else nvml.nvmlDeviceGetHandleByIndex(index)
        for name, index in zip(names, indices, strict=True)
    ]


class Gpus:
    """Queries NVML anew for each reading."""

    def __init__(self, nvml: Any | None = None) -> None:
        """`nvml` replaces the pynvml module in tests. Raises what `load` raises."""
        self._nvml = nvml or load()
        self._handles = visible(self._nvml)

    @classmethod
    def here(cls) -> Gpus | None:
        """This process's GPUs, or None if there are none or they cannot be queried."""
        try:
            found = cls()
        except Exception as error:  # noqa: BLE001 - NVML's exceptions cannot be named without its package: any means "none"
            LOG.debug("no GPU to be watched: %s", error)
            return None
        return found if found._handles else None

    def read(self) -> list[Reading]:
        """One reading for each GPU that answers; never raises."""
        return list(self._read())

    def _read(self) -> Iterator[Reading]:
        for handle in self._handles:
            index = self._ask("nvmlDeviceGetIndex", handle)
            if index is None:
                continue  # the GPU does not answer any more, for example because it fell off the bus
            memory, rates = self._ask("nvmlDeviceGetMemoryInfo", handle), self._ask("nvmlDeviceGetUtilizationRates", handle)
            watts, most = self._ask("nvmlDeviceGetPowerUsage", handle), self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)
            yield Reading(
                index,
                used=None if memory is None else int(memory.used),
                total=None if memory is None else int(memory.total),
                busy=None if rates is None else rates.gpu / 100,
                watts=None if watts is None else watts / 1000,
                most_watts=None if most is None else most / 1000,
            )

    def _ask(self, question: str, handle: Any) -> Any:
        """NVML's answer, or None if this GPU has none."""
        try:
            return getattr(self._nvml, question)(handle)
        except Exception as error:  # noqa: BLE001 - see `here`: a GPU without a power meter, a driver that was unloaded
            LOG.debug("%s: %s", question, error)
            return None
