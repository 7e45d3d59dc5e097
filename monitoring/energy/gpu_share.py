"""Whose a GPU is: its counters are of the whole GPU, whoever computes on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lehr.monitoring.energy.process_tree import of_this_run, sees_all_processes

_LOOK_SECONDS = 1.0  # between two looks at who computes on a GPU


class GpuShare:
    """This run's share of each GPU's energy, in [0, 1]: that of its processes among those that have a context on the GPU, by
    their number. Runs that share a GPU thus charge it once together, and an idle one is nobody's.

    In a container, whose process IDs are not those that the driver knows, a GPU is the container's, idle or not.
    """

    def __init__(
        self,
        nvml: Any,
        own: Callable[[], frozenset[int]] = of_this_run,
        sees_all: Callable[[], bool] = sees_all_processes,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nvml, self._own, self._now = nvml, own, now
        self._knows = sees_all()
        self._ours: dict[int, bool] = {}  # by process ID: a look at all processes of a machine takes long
        self._looked: dict[str, tuple[float, float]] = {}  # by GPU: when, and the share
        self.shared: set[str] = set()  # GPUs on which others computed too

    def of(self, name: str, handle: Any) -> float:
        """Of the GPU `name`, at most a second old. Raises nothing: a driver that does not say is taken to mean all of it."""
        if not self._knows:
            return 1.0
        when, share = self._looked.get(name, (-_LOOK_SECONDS, 0.0))
        if self._now() - when >= _LOOK_SECONDS:
            share = self._look(name, handle)
            self._looked[name] = self._now(), share
        return share

    def _look(self, name: str, handle: Any) -> float:
        try:
            there = {int(process.pid) for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        except Exception:  # noqa: BLE001 - NVML's exceptions cannot be named without its package
            return 1.0
        if there - self._ours.keys():
            own = self._own()
            self._ours = {pid: pid in own for pid in there | self._ours.keys()}
        ours = sum(self._ours[pid] for pid in there)
        if ours and ours < len(there):
            self.shared.add(name)
        return ours / len(there) if there else 0.0
