"""Energy of processors and memory: RAPL's counters where they can be read, otherwise an estimate from CPU seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lehr.monitoring import machine
from lehr.monitoring.energy.process_tree import TreeCpuSeconds

RAPL_ROOT = Path("/sys/class/powercap")
CPU_SECONDS = 5.0  # between two readings, for each looks at all processes; a RAPL counter wraps in 20 minutes or more
_MOST_WATTS = 2000.0  # of one package or its memory: a counter that would have needed more did not wrap, but began again
_LEAST_BUSY_SECONDS = 0.1  # ten ticks: a share of fewer is a matter of rounding


class CpuEstimate:
    """CPU seconds of this run's processes x watts per core: rough, without memory, fans, idle draw and clock frequencies.

    The seconds of processes that were killed with their parent are lost, but none that were counted before.
    """

    source = "estimated"
    seconds = CPU_SECONDS
    gaps: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def __init__(self, watts_per_core: float, device: str = "cpu", cpu: Callable[[], float] | None = None) -> None:
        self._watts, self._device, self._cpu = watts_per_core, device, cpu or TreeCpuSeconds()
        self._last, self._joules = self._cpu(), 0.0

    def read(self) -> dict[str, float]:
        before, self._last = self._last, self._cpu()
        self._joules += max(self._last - before, 0.0) * self._watts
        return {self._device: self._joules}


class Zone:
    """One counter of powercap, in microjoules, that wraps at its range."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError or ValueError if it cannot be read."""
        self._file, self._name = (
            folder / "energy_uj",
            f"{folder.name} ({(folder / 'name').read_text(encoding='utf-8').strip()})",
        )
        self._range = int((folder / "max_energy_range_uj").read_text(encoding="utf-8"))
        self._last = self._read()
        self.gap = ""

    def _read(self) -> int:
        return int(self._file.read_text(encoding="utf-8"))

    def joules(self, seconds: float, note: Callable[[str], None]) -> float:
        """Since the last call, `seconds` ago."""
        try:
            now = self._read()
        except (OSError, ValueError) as error:
            self.gap = f"{self._name} cannot be read ({type(error).__name__}: {error})"
            return 0.0
        before, self._last, self.gap = self._last, now, ""
        if now >= before:
            return (now - before) / 1e6
        wrapped = (now - before + self._range) / 1e6
        if wrapped <= _MOST_WATTS * max(seconds, CPU_SECONDS):
            return wrapped
        note(f"{self._name} began again: what it counted just before that is missing")
        return now / 1e6


class Rapl:
    """Intel's and AMD's package and memory counters. They are of the whole machine: this run is charged its processes' share of
    the processor time that all processes took meanwhile, so that several runs on one machine charge it once together."""

    source = "rapl"
    seconds = CPU_SECONDS

    def __init__(
        self,
        root: Path | None = None,
        device: str = "cpu",
        cpu: Callable[[], float] | None = None,
        proc: Path = machine.PROC,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`root` is powercap's folder. Raises OSError or ValueError if it has no counter that this user may read."""
        root = root or RAPL_ROOT
        names = {zone: (zone / "name").read_text(encoding="utf-8").strip() for zone in sorted(root.glob("intel-rapl:*"))}
        self._zones = [Zone(zone) for zone, name in names.items() if name.startswith("package") or name == "dram"]
        if not self._zones:
            raise FileNotFoundError(f"no RAPL packages under {root}")
        self._device, self._cpu, self._proc, self._now = device, cpu or TreeCpuSeconds(), proc, now
        self._when, self._pending, self._joules = now(), 0.0, 0.0
        self._before = self._times()
        self._events: list[str] = []

    @property
    def gaps(self) -> tuple[str, ...]:
        return tuple(zone.gap for zone in self._zones if zone.gap)

    @property
    def events(self) -> tuple[str, ...]:
        return tuple(self._events)

    def _times(self) -> tuple[float, float]:
        """CPU seconds: this run's, and all of the machine's."""
        return self._cpu(), (machine.cpu_seconds(self._proc) or (0.0, 0.0))[0]

    def read(self) -> dict[str, float]:
        passed, self._when = max(self._now() - self._when, 0.0), self._now()
        self._pending += sum(zone.joules(passed, self._events.append) for zone in self._zones)
        own, busy = (now - before for now, before in zip(self._times(), self._before, strict=True))
        if busy >= _LEAST_BUSY_SECONDS or busy < 0:
            self._joules += self._pending * (min(max(own / busy, 0.0), 1.0) if busy > 0 else 0.0)
            self._pending, self._before = 0.0, (self._before[0] + own, self._before[1] + busy)
        return {self._device: self._joules}
