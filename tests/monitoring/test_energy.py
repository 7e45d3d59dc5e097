"""The meter of a machine against counters that the test writes, what happens to such counters, and what it costs."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lehr.monitoring.energy.cpu import CpuEstimate, Rapl
from lehr.monitoring.energy.gpu import GpuCounters, GpuPower, gpu_parts
from lehr.monitoring.energy.gpu_share import GpuShare
from lehr.monitoring.energy.meter import OnRank, PowerMeter
from lehr.monitoring.energy.part import Part, Poller
from lehr.monitoring.energy.process_tree import TreeCpuSeconds
from lehr.monitoring.machine import descendants
from lehr.runtime.energy import Drawn, label
from tests.monitoring.machines import Clock, FakeNvml, write_busy, write_zone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)


def _all(nvml: FakeNvml) -> GpuShare:
    """As in a container, whose GPUs are its own."""
    return GpuShare(nvml, sees_all=lambda: False)


# -- processors


def test_the_estimate_counts_children_that_still_run_and_never_falls() -> None:
    """A child that works is counted while it works, and still counted once it is gone."""
    meter = PowerMeter(10.0, [CpuEstimate(10.0)])
    code = "import time\nwhile time.process_time() < 0.4: pass\nprint('warm', flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    running = meter.drawn().joules
    assert running >= 0.35 * 10.0 and meter.joules() == running
    child.communicate("\n")
    assert meter.drawn().joules >= running
    assert meter.source == "estimated"
    meter.close()


def test_the_estimate_counts_this_process() -> None:
    seconds = TreeCpuSeconds()
    before, start = seconds(), time.process_time()
    while time.process_time() < start + 0.2:
        pass
    assert seconds() - before >= 0.15


def test_processes_of_others_are_looked_at_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And this run's, with those that it starts, each time."""

    def write(pid: int, parent: int, ticks: int) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b)) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 0\n")

    now = Clock(0.0)
    own, tick = sum(os.times()[:4]), os.sysconf("SC_CLK_TCK")
    write(1, 0, 9000)
    write(7, 1, 9000)
    write(20, os.getpid(), tick)
    seconds = TreeCpuSeconds(tmp_path, now)
    assert seconds() - own == pytest.approx(1.0, abs=0.3)
    write(21, 20, 2 * tick)
    (tmp_path / "7" / "stat").unlink()
    (tmp_path / "7" / "stat").mkdir()  # whoever reads it now fails
    read = []
    monkeypatch.setattr("lehr.monitoring.energy.process_tree.descendants", lambda *a: read.append(set(a[2])) or descendants(*a))
    assert seconds() - own == pytest.approx(3.0, abs=0.3)
    now.at = 61.0
    seconds()
    assert read == [{20, 21}, {1, 7, 20, 21}]


# A launcher: it starts another rank, which works for 0.3 s, and a rank that counts. `argv`: ranks of this machine, patience.
LAUNCHER = """
import os, subprocess, sys
work = "import time\\nwhile time.process_time() < 0.3: pass\\ninput()"
count = '''
import sys, time
from lehr.monitoring.energy.process_tree import TreeCpuSeconds
seconds, end = TreeCpuSeconds(), time.monotonic() + float(sys.argv[1])
while seconds() < time.process_time() + 0.25 and time.monotonic() < end:
    time.sleep(0.05)
print(seconds() - time.process_time())
'''
other = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE)
env = {**os.environ, "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": sys.argv[1]}
subprocess.run([sys.executable, "-c", count, sys.argv[2]], env=env, check=True)
other.communicate(b"\\n")
"""


@pytest.mark.parametrize(("local_world", "patience", "counted"), [("2", "30", True), ("1", "0.5", False)])
def test_under_a_launcher_the_other_ranks_of_a_machine_count_too(local_world: str, patience: str, counted: bool) -> None:
    """Where there is one rank to a machine, what its parent does besides is not its own."""
    command = [sys.executable, "-c", LAUNCHER, local_world, patience]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (float(done.stdout) > 0.25) is counted


def _rapl(tmp_path: Path, own: Clock, now: Clock) -> Rapl:
    return Rapl(tmp_path / "powercap", cpu=own, proc=tmp_path / "proc", now=now)


def test_rapl_adds_packages_and_memory_over_a_wrap(tmp_path: Path) -> None:
    """Packages and dram count; psys holds both and core is part of a package, so neither may."""
    root, own, now = tmp_path / "powercap", Clock(0.0), Clock()
    files = {
        zone: write_zone(root, zone, name, joules, 1000)
        for zone, name, joules in (("0", "package-0", 900), ("0:0", "core", 1), ("0:1", "dram", 5), ("1", "psys", 7))
    }
    write_busy(tmp_path / "proc", 50)
    rapl = _rapl(tmp_path, own, now)
    for zone, joules in (("0", 20), ("0:1", 8), ("0:0", 999), ("1", 999)):  # package 0: 900 J -> 1000 J = 0 -> 20 J
        files[zone].write_text(f"{joules * 1_000_000}\n")
    own.at, now.at = 10.0, 110.0
    write_busy(tmp_path / "proc", 60)
    assert rapl.read() == {"cpu": pytest.approx(120 + 3)} and rapl.gaps == rapl.events == ()
    with pytest.raises(FileNotFoundError):
        Rapl(tmp_path / "nowhere")


def test_of_rapl_a_run_is_charged_its_share_of_processor_time_and_two_runs_all_of_it_once(tmp_path: Path) -> None:
    counter = write_zone(tmp_path / "powercap", "0", "package-0", 0)
    write_busy(tmp_path / "proc", 0)
    mine, theirs, now = Clock(0.0), Clock(0.0), Clock()
    runs = [_rapl(tmp_path, mine, now), _rapl(tmp_path, theirs, now)]
    counter.write_text(f"{400 * 1_000_000}\n")
    mine.at, theirs.at, now.at = 3.0, 1.0, 110.0
    write_busy(tmp_path / "proc", 4)
    assert [run.read()["cpu"] for run in runs] == pytest.approx([300, 100])
    counter.write_text(f"{500 * 1_000_000}\n")
    mine.at, now.at = 7.0, 120.0  # a process's time is known before the machine's sum of it: no more than all
    write_busy(tmp_path / "proc", 6)
    assert [run.read()["cpu"] for run in runs] == pytest.approx([400, 100])


def test_energy_waits_for_processor_time_to_be_shared_out_by(tmp_path: Path) -> None:
    counter = write_zone(tmp_path / "powercap", "0", "package-0", 0)
    write_busy(tmp_path / "proc", 0)
    own, now = Clock(0.0), Clock()
    rapl = _rapl(tmp_path, own, now)
    counter.write_text(f"{10 * 1_000_000}\n")
    own.at = 0.02
    write_busy(tmp_path / "proc", 0.02)
    assert rapl.read() == {"cpu": 0.0}  # two ticks
    own.at = 0.5
    write_busy(tmp_path / "proc", 1.0)
    assert rapl.read() == {"cpu": pytest.approx(5.0)}


def test_a_rapl_counter_that_began_again_or_vanishes_is_said_and_adds_nothing_that_was_not_drawn(tmp_path: Path) -> None:
    counter = write_zone(tmp_path / "powercap", "0", "package-0", 100)
    write_busy(tmp_path / "proc", 0)
    own, now = Clock(0.0), Clock()
    rapl = _rapl(tmp_path, own, now)
    counter.write_text(f"{5 * 1_000_000}\n")  # after a suspend; as a wrap it would have been 262,049 J in ten seconds
    own.at, now.at = 1.0, 110.0
    write_busy(tmp_path / "proc", 1)
    assert rapl.read() == {"cpu": pytest.approx(5.0)}
    assert rapl.events == ("intel-rapl:0 (package-0) began again: what it counted just before that is missing",)
    counter.unlink()
    own.at, now.at = 2.0, 120.0
    write_busy(tmp_path / "proc", 2)
    assert rapl.read() == {"cpu": pytest.approx(5.0)} and "cannot be read (FileNotFoundError" in rapl.gaps[0]
    write_zone(tmp_path / "powercap", "0", "package-0", 9)
    own.at, now.at = 3.0, 130.0
    write_busy(tmp_path / "proc", 3)
    assert rapl.read() == {"cpu": pytest.approx(9.0)} and rapl.gaps == ()


# -- GPUs


@pytest.mark.parametrize(("visible", "joules"), [(None, 3.0), ("1", 2.0), ("GPU-abc,0", 5.0), ("", 0.0)])
def test_the_gpus_of_this_process_only(monkeypatch: pytest.MonkeyPatch, visible: str | None, joules: float) -> None:
    nvml = FakeNvml({"0": 1_000_000, "1": 5_000_000})
    nvml.nvmlDeviceGetHandleByIndex = lambda index: str(index)  # type: ignore[method-assign]
    if visible is not None:
        nvml.counters["GPU-abc"] = 9_000_000
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    parts = gpu_parts(nvml, _all(nvml))
    for handle, more in (("0", 1000), ("1", 2000), ("GPU-abc", 4000)):
        nvml.counters[handle] = nvml.counters.get(handle, 0) + more
    assert sum(sum(part.read().values()) for part in parts) == joules
    assert [part.source for part in parts] == (["nvml"] if joules else [])


def test_power_is_integrated_where_a_gpu_has_no_counter_within_a_percent() -> None:
    """Half-sine bursts of 0.9 s, sampled every 25 ms, against the integral in closed form; the other GPU has a counter."""
    now = Clock(0.0)
    nvml = FakeNvml({"A": 0}, {"B": lambda: 80 + 600 * abs(math.sin(math.pi * now.at / 0.9))})
    share = _all(nvml)
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
    sampled = GpuPower(nvml, {"B": "B"}, _all(nvml), now)
    now.at = -50.0
    assert sampled.read() == {"B": 0.0}
    now.at = -20.0
    assert sampled.read() == {"B": pytest.approx(30 * (100 + 70) / 2)}
    assert sampled.events == ("B was not sampled for 30 s: the mean of the power around that was taken",)


def test_a_counter_that_goes_back_and_a_gpu_that_vanishes_are_said_and_the_others_still_count() -> None:
    nvml = FakeNvml({"A": 50_000, "B": 50_000})
    (counters,) = gpu_parts(nvml, _all(nvml))
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
    sampled = GpuPower(nvml, {"B": "B", "C": "C"}, _all(nvml), now)
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


# -- the meter


def test_a_driver_that_hangs_holds_nobody_up() -> None:
    nvml = FakeNvml({"A": 0})
    (counters,) = gpu_parts(nvml, _all(nvml))
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
    """Processor seconds that a poller's thread takes a second, and how often it read in that time."""
    spent, began = [0.0], time.monotonic()

    def clock() -> float:
        spent[0] = time.thread_time()
        return spent[0]

    poller = Poller(part, clock)
    time.sleep(seconds)
    poller.close()
    return spent[0] / (time.monotonic() - began)


def test_sampling_costs_less_than_two_thousandths_of_a_core() -> None:
    nvml = FakeNvml(watts={"A": lambda: 100.0})
    nvml.busy = {"A": [os.getpid()]}
    sampled = GpuPower(nvml, {"A": "A"}, _all(nvml))
    before = nvml.calls
    share = _cost(sampled, 2.0)
    print(f"{share:.3%} of a core, {nvml.calls - before} samples in two seconds")
    assert share < 2.2e-3 and nvml.calls - before >= 10  # 80 where a sample takes at most 50 microseconds of processor time


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
