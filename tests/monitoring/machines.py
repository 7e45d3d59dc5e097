"""A machine's counters as a test writes them: NVML at pynvml's interface, a powercap tree, a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lehr.monitoring.energy.gpu_share import GpuShare


class NvmlError(Exception):
    """As pynvml's NVMLError."""


class FakeNvml:
    """GPUs with energy counters in millijoules (`counters`) or only a power in watts (`watts`). `gone` do not answer, and on
    `busy` the processes with these IDs compute. `calls` counts what it was asked."""

    def __init__(self, counters: Mapping[str, float] | None = None, watts: Mapping[str, Callable[[], float]] | None = None):
        self.counters, self.watts = dict(counters or {}), dict(watts or {})
        self.gone: set[str] = set()
        self.busy: dict[str, list[int]] = {}
        self.hangs_seconds, self.calls = 0.0, 0

    def _answer(self, handle: str) -> None:
        self.calls += 1
        if self.hangs_seconds:
            time.sleep(self.hangs_seconds)
        if handle in self.gone:
            raise NvmlError("GPU is lost")

    def nvmlInit(self) -> None:
        return None

    def nvmlDeviceGetCount(self) -> int:
        return len(self.counters) + len(self.watts)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return [*self.counters, *self.watts][index]

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self._answer(handle)
        if handle not in self.counters:
            raise NvmlError("Not Supported")
        return int(self.counters[handle])

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self._answer(handle)
        if handle not in self.watts:
            raise NvmlError("Not Supported")
        return round(self.watts[handle]() * 1000)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=1) for pid in self.busy.get(handle, [])]


class Clock:
    """A clock that the test sets."""

    def __init__(self, at: float = 100.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def write_zone(root: Path, zone: str, name: str, joules: float, most: float = 262_144.0) -> Path:
    """A zone of powercap, `zone` as `0:1`; returns its counter's file."""
    folder = root / f"intel-rapl:{zone}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{round(most * 1e6)}\n")
    return folder / "energy_uj"


def write_busy(proc: Path, seconds: float) -> None:
    """All processors of the machine have been busy for so long."""
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {round(seconds * 100)} 0 0 500 500 0 0 0 0 0\n")


def in_a_container(nvml: FakeNvml) -> GpuShare:
    """Whose GPUs are its own."""
    return GpuShare(nvml, sees_all=lambda: False)
