"""The GPUs that this process may use, as NVML knows them."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger("lehr.monitoring")


@dataclass(frozen=True)
class Reading:
    """One GPU by NVML's own number. Memory in bytes, of all processes on it; `busy` is the share of time that a kernel ran, in
    [0, 1]. What a driver does not tell is None."""

    index: int
    used: int | None = None
    total: int | None = None
    busy: float | None = None
    watts: float | None = None
    most_watts: float | None = None


def load() -> Any:
    """The pynvml module, ready for questions. Raises whatever it raises where there is no GPU, no driver or no package."""
    ctypes.CDLL("libnvidia-ml.so.1")  # the driver's: pynvml opens it too, and is slow to load for nothing
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    return nvml


def visible(nvml: Any) -> list[Any]:
    """Handles of the GPUs that CUDA_VISIBLE_DEVICES leaves: NVML itself shows all of them. Raises NVML's errors."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        names = [str(i) for i in range(nvml.nvmlDeviceGetCount())]
    else:
        names = [name.strip() for name in listed.split(",") if name.strip() and name.strip() != "-1"]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name) for name in names
    ]


class Gpus:
    """Asks NVML anew at each reading."""

    def __init__(self, nvml: Any | None = None) -> None:
        """`nvml` replaces the pynvml module in tests. Raises what `load` raises."""
        self._nvml = nvml or load()
        self._handles = visible(self._nvml)

    @classmethod
    def here(cls) -> Gpus | None:
        """Those of this process, or None where there are none to be asked."""
        try:
            found = cls()
        except Exception as error:  # noqa: BLE001 - NVML has its own exceptions, absent with the package: any failure means "none"
            LOG.debug("no GPU to be watched: %s", error)
            return None
        return found if found._handles else None

    def read(self) -> list[Reading]:
        """One for each GPU; never raises."""
        return list(self._read())

    def _read(self) -> Iterator[Reading]:
        for handle in self._handles:
            index = self._ask("nvmlDeviceGetIndex", handle)
            if index is None:
                continue  # it fell off its bus
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
        """NVML's answer, or None where this GPU has none."""
        try:
            return getattr(self._nvml, question)(handle)
        except Exception as error:  # noqa: BLE001 - see `here`: a card without a power meter, a driver that went away
            LOG.debug("%s: %s", question, error)
            return None
