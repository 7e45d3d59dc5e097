"""The meter of a machine: its GPUs and its processors, each read by a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

from lehr.monitoring import gpus
from lehr.monitoring.energy.cpu import CpuEstimate, Rapl
from lehr.monitoring.energy.gpu import gpu_parts
from lehr.monitoring.energy.part import Part, Poller
from lehr.runtime.energy import Drawn, Power, label
from lehr.runtime.environment import whole
from lehr.runtime.rank_environment import launched

LOG = logging.getLogger("lehr.monitoring")


def _cpu_device() -> str:
    """Each of a launcher's machines has processors of its own to charge."""
    return f"cpu-{os.environ.get('GROUP_RANK', '0') if launched() else '0'}"


def processors(watts_per_core: float) -> Part:
    """RAPL where this user may read it, otherwise the estimate."""
    try:
        return Rapl(device=_cpu_device())
    except (OSError, ValueError) as error:
        LOG.debug("no RAPL: %s", error)
        return CpuEstimate(watts_per_core, _cpu_device())


def graphics(nvml: Any | None = None) -> list[Part]:
    """The GPUs that this process may use; none if there are none or they cannot be asked."""
    try:
        return list(gpu_parts(nvml))
    except Exception as error:  # noqa: BLE001 - NVML's exceptions cannot be named without its package: any means "none"
        LOG.debug("no GPU to be metered: %s", error)
        return []


class PowerMeter:
    """The Power port for one machine, counting from when it was made. `source` names what counts: see
    lehr.runtime.energy.label."""

    def __init__(self, watts_per_core: float, parts: Sequence[Part] | None = None) -> None:
        """`watts_per_core`: `recipe.site.cpu_watts_per_core`, for the estimate. `parts` overrides what is found."""
        # Looking at all processes takes longest: GPUs come after it, so that a reading is of the moment when it is returned.
        found = [processors(watts_per_core), *graphics()] if parts is None else list(parts)
        self._watts, self._pollers = watts_per_core, [Poller(part) for part in found]
        self.source = label(part.source for part in found)
        self._elsewhere, self._latest, self._lock = 0.0, 0.0, threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return (OnRank, (self._watts,))

    def _drawn(self, *, fresh: bool) -> Drawn:
        parts: dict[tuple[str, str], float] = {}
        for poller in self._pollers:
            found = poller.fresh() if fresh else poller.latest()
            parts.update({(poller.part.source, device): joules for device, joules in found.items()})
        gaps = tuple(gap for poller in self._pollers for gap in poller.gaps)
        return Drawn(parts, gaps, tuple(event for poller in self._pollers for event in poller.part.events))

    def joules(self) -> float:
        """See lehr.runtime.energy.Power."""
        with self._lock:
            self._latest = max(self._latest, self._drawn(fresh=False).joules + self._elsewhere)
            return self._latest

    def drawn(self) -> Drawn:
        """See lehr.runtime.energy.Power."""
        return self._drawn(fresh=True)

    def elsewhere(self, joules: float) -> None:
        """See lehr.runtime.energy.Power."""
        with self._lock:
            self._elsewhere += max(joules, 0.0)

    def on_rank(self) -> Power | None:
        """See lehr.runtime.energy.Power."""
        return self

    def close(self) -> None:
        """Its threads end."""
        for poller in self._pollers:
            poller.close()


class OnRank:
    """What a launcher's other ranks receive of rank 0's meter. The first of a machine's ranks counts the processors and the
    GPUs that it sees; another rank counts GPUs if its launcher gave each rank its own, as Slurm can."""

    _meter: PowerMeter | None = None  # of this process; kept, since its counters must not begin again
    source = "none"

    def __init__(self, watts_per_core: float) -> None:
        self._watts = watts_per_core

    def __reduce__(self) -> tuple[Any, ...]:
        return (OnRank, (self._watts,))

    def joules(self) -> float:
        return 0.0

    def drawn(self) -> Drawn:
        return Drawn()

    def elsewhere(self, joules: float) -> None:
        return None

    def on_rank(self) -> Power | None:
        """See lehr.runtime.energy.Power."""
        if OnRank._meter is None:
            if whole("LOCAL_RANK", 0) == 0:
                OnRank._meter = PowerMeter(self._watts)
            elif _has_own_gpus():
                OnRank._meter = PowerMeter(self._watts, graphics())
        return OnRank._meter


def _has_own_gpus() -> bool:
    """Whether the ranks of this machine see different GPUs: fewer than there are ranks."""
    return "CUDA_VISIBLE_DEVICES" in os.environ and 0 < len(gpus.listed()) < whole("LOCAL_WORLD_SIZE", 1)
