"""System metrics of a run, under MLflow's names (mlflow/system_metrics).

MLflow's own monitor needs psutil, and queries the store for the run before each sample. This module reads the kernel's values;
the tracker sends them.
"""

from __future__ import annotations

from pathlib import Path

from lehr.monitoring import machine
from lehr.monitoring.gpus import Gpus

PREFIX = "system/"
_MEGABYTE = 1e6  # as in MLflow


class SystemMetrics:
    """Samples since this object was made. Processor utilisation is the mean since the previous sample."""

    def __init__(self, folder: Path, gpus: Gpus | None = None, proc: Path = machine.PROC) -> None:
        """`folder` selects the disk to monitor: the run's, whereas MLflow's own monitor takes the root file system's."""
        self._folder, self._gpus, self._proc = folder, gpus, proc
        self._cpu = machine.cpu_seconds(proc)
        self._network = machine.network_bytes(proc)

    def sample(self) -> dict[str, float]:
        """All values that can be read, by MLflow's names. Never raises."""
        found = {**self._processor(), **self._memory(), **self._disk(), **self._traffic(), **self._devices()}
        return {PREFIX + name: round(value, 1) for name, value in found.items()}

    def _processor(self) -> dict[str, float]:
        before, self._cpu = self._cpu, machine.cpu_seconds(self._proc)
        if before is None or self._cpu is None or self._cpu[1] <= before[1]:
            return {}
        worked, passed = self._cpu[0] - before[0], self._cpu[1] - before[1]
        return {"cpu_utilization_percentage": max(0.0, min(100.0, 100 * worked / passed))}

    def _memory(self) -> dict[str, float]:
        read = machine.memory_bytes(self._proc)
        if read is None:
            return {}
        used, total = read
        return {
            "system_memory_usage_megabytes": used / _MEGABYTE,
            "system_memory_usage_percentage": 100 * used / max(total, 1),
        }

    def _disk(self) -> dict[str, float]:
        read = machine.disk_bytes(self._folder)
        if read is None:
            return {}
        used, free = read
        return {
            "disk_usage_percentage": 100 * used / max(used + free, 1),
            "disk_usage_megabytes": used / _MEGABYTE,
            "disk_available_megabytes": free / _MEGABYTE,
        }

    def _traffic(self) -> dict[str, float]:
        now = machine.network_bytes(self._proc)
        if now is None or self._network is None:
            return {}
        received, sent = (max(after - before, 0) for after, before in zip(now, self._network, strict=True))
        return {"network_receive_megabytes": received / _MEGABYTE, "network_transmit_megabytes": sent / _MEGABYTE}

    def _devices(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for gpu in self._gpus.read() if self._gpus else ():
            name = f"gpu_{gpu.index}"
            if gpu.used is not None and gpu.total:
                found[f"{name}_memory_usage_percentage"] = 100 * gpu.used / gpu.total
                found[f"{name}_memory_usage_megabytes"] = gpu.used / _MEGABYTE
            if gpu.busy is not None:
                found[f"{name}_utilization_percentage"] = 100 * gpu.busy
            if gpu.watts is not None:
                found[f"{name}_power_usage_watts"] = gpu.watts
                if gpu.most_watts:
                    found[f"{name}_power_usage_percentage"] = 100 * gpu.watts / gpu.most_watts
        return found
