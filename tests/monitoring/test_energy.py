"""The meter of a machine: what it adds, whom it holds up, and what it costs."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from pathlib import Path

import pytest

from lehr.monitoring.energy.cpu import CpuEstimate
from lehr.monitoring.energy.gpu import GpuPower, gpu_parts
from lehr.monitoring.energy.meter import OnRank, PowerMeter
from lehr.monitoring.energy.part import Part, Poller
from lehr.runtime.energy import Drawn, label
from tests.monitoring.machines import Clock, FakeNvml, in_a_container

pytestmark = pytest.mark.usefixtures("no_launcher")


def test_a_driver_that_hangs_holds_nobody_up() -> None:
    nvml = FakeNvml({"A": 0})
    (counters,) = gpu_parts(nvml, in_a_container(nvml))
    meter = PowerMeter(10.0, [counters, CpuEstimate(1.0, cpu=(clock := Clock(0.0)))])
    meter.drawn()
    nvml.hangs_seconds, clock.at = 3.0, 5.0
    nvml.counters["A"] = 1000
    began = time.monotonic()
    assert meter.drawn().parts == {("nvml", "A"): 0.0, ("estimated", "cpu"): 5.0}
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    assert meter.joules() == 5.0 and time.monotonic() - began < 0.05
    meter.close()


class Failing:
    source, seconds, gaps, events = "nvml", 60.0, (), ()

    def read(self) -> dict[str, float]:
        raise RuntimeError("driver unloaded")


def test_a_part_that_cannot_be_read_is_a_gap_and_no_exception() -> None:
    meter = PowerMeter(10.0, [Failing(), CpuEstimate(1.0, cpu=Clock(2.0))])
    drawn = meter.drawn()
    assert drawn.gaps == ("nvml cannot be read (RuntimeError: driver unloaded)",) and meter.source == "nvml+estimated"
    assert drawn.joules == meter.joules() == 0.0
    meter.close()


def test_what_other_machines_drew_adds_to_the_counter_and_not_to_this_machine() -> None:
    meter = PowerMeter(10.0, [CpuEstimate(1.0, cpu=(clock := Clock(0.0)))])
    clock.at = 4.0
    assert meter.drawn().joules == 4.0
    meter.elsewhere(6.0)
    meter.elsewhere(-1.0)
    assert meter.joules() == 10.0 and meter.drawn().joules == 4.0
    meter.close()


def test_sources_have_one_order_and_what_came_after_is_a_difference() -> None:
    assert label(["estimated", "nvml", "none"]) == "nvml+estimated" and label([]) == "none"
    before = Drawn({("nvml", "A"): 5.0}, (), ("first",))
    after = Drawn({("nvml", "A"): 7.0, ("rapl", "cpu"): math.nan}, ("gone",), ("first", "second"))
    assert after.since(before) == Drawn({("nvml", "A"): 2.0, ("rapl", "cpu"): 0.0}, ("gone",), ("second",))


@pytest.mark.parametrize(
    ("local_rank", "visible", "sources"),
    [("0", None, "nvml+estimated"), ("1", None, None), ("1", "0,1", None), ("1", "1", "nvml")],
)
def test_on_other_ranks_the_first_of_a_machine_counts_and_those_with_gpus_of_their_own(
    local_rank: str, visible: str | None, sources: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml({"0": 0, "1": 0})
    monkeypatch.setattr("lehr.monitoring.gpus.load", lambda: nvml)
    monkeypatch.setattr("lehr.monitoring.energy.cpu.RAPL_ROOT", Path("/nowhere"))
    monkeypatch.setattr(OnRank, "_meter", None)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    here = PowerMeter(7.0, [CpuEstimate(7.0)])
    copy = pickle.loads(pickle.dumps(here))
    here.close()
    assert isinstance(copy, OnRank) and copy.joules() == 0.0
    meter = copy.on_rank()
    assert (meter and meter.source) == sources and copy.on_rank() is meter
    if isinstance(meter, PowerMeter):
        meter.close()


def _cost(part: Part, seconds: float) -> float:
    """Processor seconds that a poller's thread takes a second, from its first reading to its newest, whose rest is to come."""
    told: list[tuple[float, float]] = []  # what the poller was told of its processor time, and when

    def clock() -> float:
        told.append((time.thread_time(), time.monotonic()))
        return told[-1][0]

    poller = Poller(part, clock)
    time.sleep(seconds)
    poller.close()
    (first, began), (last, _), (_, ended) = told[0], told[-2], told[-1]
    return (last - first) / (ended - began)


def test_sampling_costs_less_than_two_thousandths_of_a_core() -> None:
    nvml = FakeNvml(watts={"A": lambda: 100.0})
    nvml.busy = {"A": [os.getpid()]}
    sampled = GpuPower(nvml, {"A": "A"}, in_a_container(nvml))
    before = nvml.calls
    share = _cost(sampled, 2.0)
    print(f"{share:.3%} of a core, {nvml.calls - before} samples in two seconds")
    assert share <= Poller.SHARE and nvml.calls - before >= 10  # 80 if a sample takes 50 µs of processor time


def test_a_reading_that_takes_long_is_made_less_often() -> None:
    class Long:
        source, seconds, gaps, events, times = "estimated", 0.01, (), (), 0

        def read(self) -> dict[str, float]:
            self.times += 1
            end = time.thread_time() + 0.004
            while time.thread_time() < end:
                pass
            return {"cpu": 0.0}

    part = Long()
    _cost(part, 1.0)
    assert part.times == 1  # the next one after two seconds
    assert not [t for t in threading.enumerate() if t.name == "energy-estimated" and t.is_alive()] or part.times < 3
