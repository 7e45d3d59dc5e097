"""Energy of GPUs through NVML: their own counters, or the integral of the sampled power where a GPU has none.

The counter (mJ since the driver was loaded, from Volta on) is exact however seldom it is read, whereas the power that NVML
tells is a mean over a window that the driver chooses. That is sampled every 25 ms, as in OLMo 2 section 6.5.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from lehr.monitoring import gpus
from lehr.monitoring.energy.gpu_share import GpuShare

SAMPLE_SECONDS = 0.025
COUNTER_SECONDS = 1.0
_LONG_SECONDS = 10.0  # without a sample: said, and bridged by the mean of the samples around it


def name_of(nvml: Any, handle: Any, number: int) -> str:
    """The GPU's UUID, or its number among the visible ones."""
    try:
        found = nvml.nvmlDeviceGetUUID(handle)
        return found.decode() if isinstance(found, bytes) else str(found)
    except Exception:  # noqa: BLE001 - NVML's exceptions cannot be named without its package
        return f"GPU {number}"


class _Gpus:
    """What both kinds have in common: joules by GPU, who has stopped answering, and what happened."""

    def __init__(self, nvml: Any, devices: dict[str, Any], share: GpuShare) -> None:
        self._nvml, self._devices, self._share = nvml, devices, share
        self._joules = dict.fromkeys(devices, 0.0)
        self._silent: dict[str, str] = {}
        self._events: list[str] = []

    @property
    def gaps(self) -> tuple[str, ...]:
        """GPUs that do not answer, and those that are not this run's alone."""
        silent = [f"{name} does not answer ({why})" for name, why in sorted(dict(self._silent).items())]
        shared = sorted(set(self._share.shared) & self._devices.keys())
        return (*silent, *(f"{name} is shared, and charged by the number of processes on it" for name in shared))

    @property
    def events(self) -> tuple[str, ...]:
        return tuple(self._events)

    def read(self) -> dict[str, float]:
        for name, handle in self._devices.items():
            try:
                self._add(name, handle)
                if self._silent:
                    self._silent.pop(name, None)
            except Exception as error:  # noqa: BLE001 - as above; the other GPUs still count
                self._silent[name] = f"{type(error).__name__}: {error}"
                self._lost(name)
        return dict(self._joules)

    def _charge(self, name: str, handle: Any, joules: float) -> None:
        self._joules[name] += joules * self._share.of(name, handle)

    def _add(self, name: str, handle: Any) -> None:
        raise NotImplementedError

    def _lost(self, name: str) -> None:
        """The GPU did not answer."""


class GpuCounters(_Gpus):
    """GPUs with a counter. One that vanishes and comes back has counted on, unless the driver was loaded anew."""

    source = "nvml"
    seconds = COUNTER_SECONDS

    def __init__(self, nvml: Any, devices: dict[str, Any], share: GpuShare) -> None:
        super().__init__(nvml, devices, share)
        self._last: dict[str, int] = {}
        self.read()

    def _add(self, name: str, handle: Any) -> None:
        now = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        last = self._last.get(name, now)
        if now < last:
            self._events.append(f"the counter of {name} began again: what it drew just before that is missing")
            last = 0
        self._last[name] = now
        self._charge(name, handle, (now - last) / 1e3)


class GpuPower(_Gpus):
    """GPUs without a counter: their power in watts, by the trapezoidal rule over a clock that is never set."""

    source = "nvml_sampled"
    seconds = SAMPLE_SECONDS

    def __init__(self, nvml: Any, devices: dict[str, Any], share: GpuShare, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(nvml, devices, share)
        self._now = now
        self._last: dict[str, tuple[float, float]] = {}
        self.read()

    def _watts(self, handle: Any) -> float:
        watts = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        if not math.isfinite(watts) or watts < 0:
            raise ValueError(f"a power of {watts} W")
        return float(watts)

    def _add(self, name: str, handle: Any) -> None:
        now, watts = self._now(), self._watts(handle)
        when, before = self._last.get(name, (now, watts))
        self._last[name] = now, watts
        passed = max(now - when, 0.0)
        if passed > _LONG_SECONDS:
            self._events.append(f"{name} was not sampled for {passed:.0f} s: the mean of the power around that was taken")
        self._charge(name, handle, passed * (before + watts) / 2)

    def _lost(self, name: str) -> None:
        self._last.pop(name, None)  # what it drew meanwhile is not known


def gpu_parts(nvml: Any | None = None, share: GpuShare | None = None) -> list[GpuCounters | GpuPower]:
    """The meters of the visible GPUs, one for each kind of reading; none without GPUs. `nvml` replaces the pynvml module in
    tests. Raises what loading it raises. A GPU that tells neither energy nor power is a gap of its part."""
    nvml = nvml or gpus.load()
    devices = {name_of(nvml, handle, n): handle for n, handle in enumerate(gpus.visible(nvml))}
    share = share or GpuShare(nvml)
    counters: dict[str, Any] = {}
    sampled: dict[str, Any] = {}
    for name, handle in devices.items():
        try:
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            counters[name] = handle
        except Exception:  # noqa: BLE001 - as above: not supported, by this GPU or this driver
            sampled[name] = handle
    found: list[GpuCounters | GpuPower] = [GpuCounters(nvml, counters, share)] if counters else []
    return found + ([GpuPower(nvml, sampled, share)] if sampled else [])
