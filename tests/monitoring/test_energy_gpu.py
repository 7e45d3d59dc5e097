"""Energy of GPUs: counters and sampled power that the test writes, what happens to them, and whose a GPU is."""

from __future__ import annotations

import math

import pytest

from lehr.monitoring.energy.gpu import GpuCounters, GpuPower, gpu_parts
from lehr.monitoring.energy.gpu_share import GpuShare
from tests.monitoring.machines import Clock, FakeNvml, in_a_container

pytestmark = pytest.mark.usefixtures("no_launcher")


@pytest.mark.parametrize(("visible", "joules"), [(None, 3.0), ("1", 2.0), ("GPU-abc,0", 5.0), ("", 0.0)])
def test_the_gpus_of_this_process_only(monkeypatch: pytest.MonkeyPatch, visible: str | None, joules: float) -> None:
    nvml = FakeNvml({"0": 1_000_000, "1": 5_000_000})
    nvml.nvmlDeviceGetHandleByIndex = lambda index: str(index)  # type: ignore[method-assign]
    if visible is not None:
        nvml.counters["GPU-abc"] = 9_000_000
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    parts = gpu_parts(nvml, in_a_container(nvml))
    for handle, more in (("0", 1000), ("1", 2000), ("GPU-abc", 4000)):
        nvml.counters[handle] = nvml.counters.get(handle, 0) + more
    assert sum(sum(part.read().values()) for part in parts) == joules
    assert [part.source for part in parts] == (["nvml"] if joules else [])


def test_power_is_integrated_where_a_gpu_has_no_counter_within_a_percent() -> None:
    """Half-sine bursts of 0.9 s, sampled every 25 ms, against the integral in closed form; the other GPU has a counter."""
    now = Clock(0.0)
    nvml = FakeNvml({"A": 0}, {"B": lambda: 80 + 600 * abs(math.sin(math.pi * now.at / 0.9))})
    share = in_a_container(nvml)
    counters, sampled = gpu_parts(nvml, share)
    assert isinstance(counters, GpuCounters) and isinstance(sampled, GpuPower)
    sampled = GpuPower(nvml, {"B": "B"}, share, now)
    for step in range(1, 3601):
        now.at = step * 0.025
        sampled.read()
    exact = 90 * (80 + 600 * 2 / math.pi)
    assert sampled.read()["B"] == pytest.approx(exact, rel=0.002) and sampled.source == "nvml_sampled"


def test_a_clock_that_jumps_is_no_exception_and_a_long_silence_is_said() -> None:
    now = Clock(0.0)
    nvml = FakeNvml(watts={"B": lambda: 50.0 - now.at})  # between two samples it is taken to change evenly
    sampled = GpuPower(nvml, {"B": "B"}, in_a_container(nvml), now)
    now.at = -50.0
    assert sampled.read() == {"B": 0.0}
    now.at = -20.0
    assert sampled.read() == {"B": pytest.approx(30 * (100 + 70) / 2)}
    assert sampled.events == ("B was not sampled for 30 s: the mean of the power around that was taken",)


def test_a_counter_that_goes_back_and_a_gpu_that_vanishes_are_said_and_the_others_still_count() -> None:
    nvml = FakeNvml({"A": 50_000, "B": 50_000})
    (counters,) = gpu_parts(nvml, in_a_container(nvml))
    nvml.counters.update(A=60_000, B=51_000)
    assert counters.read() == {"A": 10.0, "B": 1.0}
    nvml.counters.update(A=2_000, B=52_000)  # the driver was loaded anew
    assert counters.read() == {"A": 12.0, "B": 2.0}
    assert counters.events == ("the counter of A began again: what it drew just before that is missing",)
    nvml.gone.add("A")
    nvml.counters.update(A=7_000, B=53_000)
    assert counters.read() == {"A": 12.0, "B": 3.0} and counters.gaps == ("A does not answer (NvmlError: GPU is lost)",)
    nvml.gone.clear()
    assert counters.read() == {"A": 17.0, "B": 3.0} and counters.gaps == ()


def test_a_gpu_that_tells_nothing_is_a_gap_and_one_that_falls_off_the_bus_adds_nothing_meanwhile() -> None:
    now = Clock(0.0)
    nvml = FakeNvml(watts={"B": lambda: 100.0, "C": lambda: math.nan})
    sampled = GpuPower(nvml, {"B": "B", "C": "C"}, in_a_container(nvml), now)
    assert sampled.gaps == ("C does not answer (ValueError: cannot convert float NaN to integer)",)
    now.at = 1.0
    assert sampled.read()["B"] == pytest.approx(100.0)
    nvml.gone.add("B")
    now.at = 2.0
    sampled.read()
    nvml.gone.clear()
    now.at = 100.0
    assert sampled.read()["B"] == pytest.approx(100.0)
    now.at = 101.0
    assert sampled.read() == {"B": pytest.approx(200.0), "C": 0.0}


def test_a_gpu_is_charged_to_the_processes_on_it_and_an_idle_one_to_nobody() -> None:
    nvml, now = FakeNvml({"A": 0, "B": 0}), Clock()
    share = GpuShare(nvml, own=lambda: frozenset({10, 11}), sees_all=lambda: True, now=now)
    (counters,) = gpu_parts(nvml, share)

    def after(seconds: float, joules: int) -> dict[str, float]:
        now.at += seconds
        nvml.counters = {name: mj + joules * 1000 for name, mj in nvml.counters.items()}
        return dict(counters.read())

    nvml.busy = {"A": [10, 11], "B": [7]}
    assert after(5, 8) == {"A": 8.0, "B": 0.0} and counters.gaps == ()
    nvml.busy = {"A": [10, 11, 7, 8], "B": []}
    assert after(5, 8) == {"A": 12.0, "B": 0.0}
    assert counters.gaps == ("A is shared, and charged by the number of processes on it",)


def test_two_runs_that_share_a_gpu_charge_it_once_together() -> None:
    nvml, now = FakeNvml({"A": 0}), Clock()
    nvml.busy = {"A": [1, 2, 3]}
    runs = [
        gpu_parts(nvml, GpuShare(nvml, own=lambda own=own: frozenset(own), sees_all=lambda: True, now=now))[0]  # type: ignore[misc]
        for own in ({1}, {2, 3})
    ]
    nvml.counters["A"] = 9000
    assert [run.read()["A"] for run in runs] == [3.0, 6.0]
