"""A run's energy: from a hardware counter if there is one, otherwise an estimate that is marked as such."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from lehr.monitoring import gpus
from lehr.monitoring.machine import descendants
from lehr.report.footprint import FacilityJoules, ItJoules, carbon_kg, facility_energy, kwh, water_liters

__all__ = ["FacilityJoules", "ItJoules", "PowerMeter", "carbon_kg", "facility_energy", "kwh", "water_liters"]

LOG = logging.getLogger("lehr.monitoring")
RAPL_ROOT = Path("/sys/class/powercap")
RAPL_POLL_SECONDS = 60.0  # the counter wraps after 262 kJ, about 20 minutes of a large package at full power


def tree_cpu_seconds() -> float:
    """CPU seconds, user and system, of this process and all its descendants, running or waited for.

    Running descendants are read from /proc; without /proc only those already waited for count.
    """
    own = os.times()
    seconds = own.user + own.system + own.children_user + own.children_system
    tick = os.sysconf("SC_CLK_TCK")
    # utime, stime, cutime, cstime: each process with the children that it has waited for
    return seconds + sum(sum(map(int, fields[11:15])) for fields in descendants().values()) / tick


class CpuEstimate:
    """CPU seconds x watts per core: a rough estimate, without memory, fans and clock frequencies."""

    source = "estimated"

    def __init__(self, watts_per_core: float) -> None:
        self._watts = watts_per_core

    def read_joules(self) -> float:
        return tree_cpu_seconds() * self._watts


class Rapl:
    """Intel and AMD package and memory counters, read from powercap: of the whole machine, not of this process alone."""

    source = "rapl"

    def __init__(self, root: Path = RAPL_ROOT, poll_seconds: float = RAPL_POLL_SECONDS) -> None:
        """Raises OSError if there is no counter that this user may read."""
        names = {zone: (zone / "name").read_text(encoding="utf-8").strip() for zone in sorted(root.glob("intel-rapl:*"))}
        zones = [zone for zone, name in names.items() if name.startswith("package") or name == "dram"]
        self._last = {zone: self._microjoules(zone) for zone in zones}
        if not self._last:
            raise FileNotFoundError(f"no RAPL packages under {root}")
        self._range = {zone: int((zone / "max_energy_range_uj").read_text(encoding="utf-8")) for zone in self._last}
        self._joules = 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._poll, args=(poll_seconds,), name="rapl", daemon=True).start()

    @staticmethod
    def _microjoules(zone: Path) -> int:
        return int((zone / "energy_uj").read_text(encoding="utf-8"))

    def _poll(self, seconds: float) -> None:
        while True:  # often enough that every wrap of the counter is noticed; a daemon thread, it ends with the process
            time.sleep(seconds)
            self.read_joules()

    def read_joules(self) -> float:
        with self._lock:
            for zone, last in self._last.items():
                now = self._microjoules(zone)
                self._joules += (now - last if now >= last else now - last + self._range[zone]) / 1e6
                self._last[zone] = now
            return self._joules


class Nvml:
    """The GPUs' own energy counters (mJ since the driver was loaded; Volta and later)."""

    source = "nvml"

    def __init__(self, nvml: Any | None = None) -> None:
        """`nvml` replaces the pynvml module in tests. Raises NVML's errors if there is no GPU."""
        self._nvml = nvml or gpus.load()
        self._devices = gpus.visible(self._nvml)
        if not self._devices:
            raise RuntimeError("no GPU is visible")
        self._start = [self._millijoules(device) for device in self._devices]

    def _millijoules(self, device: Any) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(device))

    def read_joules(self) -> float:
        return sum(self._millijoules(d) - s for d, s in zip(self._devices, self._start, strict=True)) / 1e3


def _best_source(watts_per_core: float) -> Nvml | Rapl | CpuEstimate:
    for kind in (Nvml, Rapl):
        try:
            source = kind()
            source.read_joules()
        except Exception as error:  # noqa: BLE001 - NVML's exceptions cannot be named without its package: any means "not here"
            LOG.debug("no %s energy counter: %s", kind.source, error)
            continue
        return source
    return CpuEstimate(watts_per_core)


class PowerMeter:
    """The Power port: joules since it was made, never decreasing; `source` is "nvml", "rapl" or "estimated"."""

    def __init__(self, watts_per_core: float, source: Nvml | Rapl | CpuEstimate | None = None) -> None:
        """`watts_per_core`: `recipe.site.cpu_watts_per_core`, for the estimate. `source` overrides the choice."""
        self._reader = source or _best_source(watts_per_core)
        self.source: str = self._reader.source
        self._start = self._reader.read_joules()
        self._latest = 0.0

    def joules(self) -> float:
        """IT energy in joules. The estimate can lose processes that were killed with their parent: it then stays constant until
        it exceeds its last value."""
        self._latest = max(self._latest, self._reader.read_joules() - self._start)
        return self._latest
