"""One rank of two, on a machine with GPUs of its own whose power is a function of the time; what a launcher would start there.

python -m tests.storage.metered PLACE SECONDS DIE    PLACE: a folder or an object store's address; DIE: 1, and rank 0 is killed
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from lehr.artifacts.folder_store import LocalStore
from lehr.config.parallel import Parallel
from lehr.distributed.rank_launcher import lead_or_follow
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.monitoring import gpus
from lehr.monitoring.energy import PowerMeter
from lehr.monitoring.energy.cpu import CpuEstimate
from lehr.monitoring.energy.gpu import GpuCounters, GpuPower
from lehr.monitoring.energy.part import FRESH_SECONDS, Poller
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.run import run_stage
from lehr.pipeline.spec import Outcome, StageSpec
from lehr.runtime.energy import Drawn
from lehr.runtime.ports import Store
from lehr.train.fit import RankContext
from tests.monitoring.machines import FakeNvml
from tests.staging import AnyConfig

WATTS_PER_CORE = 7.0
RANK = int(os.environ.get("RANK", "0"))


def watts(gpu: str, at: float) -> float:
    """Power of a GPU, of either machine, at a time of the system's monotonic clock. Where it is sampled it changes slowly: on a
    machine that does much else, a sample may come a second late."""
    mean, period = {"A": (300, 1.3), "B": (150, 17.1), "C": (500, 1.9), "D": (90, 23.3)}[gpu]
    return mean * (1 + 0.5 * math.sin(2 * math.pi * at / period))


def joules(gpu: str, at: float) -> float:
    """The integral of that."""
    mean, period = {"A": (300, 1.3), "C": (500, 1.9)}[gpu]
    return mean * (at - 0.5 * period / (2 * math.pi) * math.cos(2 * math.pi * at / period))


class Driver(FakeNvml):
    """The first GPU of a machine has a counter, which its driver moves on every 10 ms; the second has none. `asked`: when each
    was read last."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__({first: 0}, {second: lambda: watts(second, time.monotonic())})
        self._first, self.asked = first, dict[str, float]()
        self.busy = {first: [os.getpid()], second: [os.getpid()]}

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if handle == self._first:
            self.asked[handle] = time.monotonic()
            self.counters[handle] = 1000 * joules(handle, self.asked[handle] // 0.01 * 0.01)
        return super().nvmlDeviceGetTotalEnergyConsumption(handle)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self.asked[handle] = time.monotonic()
        return super().nvmlDeviceGetPowerUsage(handle)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Stamped(dict[str, float]):
    """A reading, with when its GPU was asked, or with the processor time of this process then."""

    at = 0.0


def stamp(part: type[GpuCounters] | type[GpuPower] | type[CpuEstimate], driver: Driver) -> None:
    read = part.read

    def stamped(self: Any) -> dict[str, float]:
        found = Stamped(read(self))
        found.at = cpu_seconds() if part is CpuEstimate else max(driver.asked[name] for name in found)
        return found

    part.read = stamped  # type: ignore[method-assign, assignment]


def write_looks(path: Path, driver: Driver) -> None:
    """From now on a line for each look at the meter: when that was, the exporter's counter then, and the stamps of the readings
    in it."""
    for part in (GpuCounters, GpuPower, CpuEstimate):
        stamp(part, driver)
    drawn, fresh, file, lock = PowerMeter.drawn, Poller.fresh, path.open("a", encoding="utf-8"), threading.Lock()
    asked: dict[str, float] = {}

    def noticed(self: Poller, wait: float = FRESH_SECONDS) -> Mapping[str, float]:
        found = fresh(self, wait)
        asked.update(dict.fromkeys(found, found.at) if isinstance(found, Stamped) else {})
        return found

    def looked(self: PowerMeter) -> Drawn:
        with lock:
            found = drawn(self)
            # What the exporter reads at this moment stands beside it.
            file.write(json.dumps({"at": time.monotonic(), "counter": self.joules(), **asked}) + "\n")
            file.flush()
        return found

    Poller.fresh, PowerMeter.drawn = noticed, looked  # type: ignore[method-assign]


@dataclass(frozen=True)
class Work:
    context: RankContext
    seconds: float
    die: bool


def busy(ranks: Ranks, work: Work) -> int:
    """Compute, in step with the other rank, for so long."""
    end = time.monotonic() + work.seconds
    while ranks.gather(time.monotonic() < end)[0]:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
    if work.die and ranks.first:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def _store(place: str) -> Store:
    if "://" not in place:
        return LocalStore(place)
    from lehr.artifacts.object_store.store import ObjectStore
    from lehr.infra.storage import S3Objects

    return ObjectStore(S3Objects(place))


def main(place: str, seconds: str, die: str) -> None:
    driver = Driver(*("AB" if RANK == 0 else "CD"))
    gpus.load = lambda: driver
    write_looks(Path(os.environ["LOOKS"]), driver)

    def work() -> str:
        def run(config: AnyConfig, inputs: object, attempt: Attempt) -> Outcome:
            context = RankContext.of(attempt, Parallel(processes=2))
            return Outcome(tokens=run_ranks(2, 1, busy, Work(context, float(seconds), die == "1")), processes=2)

        power = PowerMeter(WATTS_PER_CORE)
        spec = StageSpec("test", AnyConfig, {}, "checkpoint", "ranked", "data", run)  # type: ignore[arg-type]
        return run_stage(spec, "t", AnyConfig(), spec.inputs({}), StageContext(_store(place), power=power)).uri

    print(lead_or_follow(work), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
