"""What is read of the machine, against files that the test writes and against what this process knows of itself."""

from __future__ import annotations

import importlib.util
import math
import mmap
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lehr.monitoring import machine, peak_memory
from lehr.monitoring.gpus import Gpus, Reading
from lehr.monitoring.system_metrics import PREFIX, SystemMetrics
from lehr.monitoring.usage import Usage

MIB = 2**20


def write(proc: Path, busy: int, idle: int, received: int = 1_000_000) -> None:
    """A machine whose processors worked `busy` ticks and rested `idle`, half of them waiting for a disk."""
    (proc / "net").mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle // 2} {idle // 2} 0 0 0 77 0\ncpu0 1 2 3\n")
    (proc / "meminfo").write_text("MemTotal: 4000 kB\nMemFree: 10 kB\nMemAvailable: 1000 kB\nHugePages_Total: 3\n")
    head = "Inter-|   Receive\n face |bytes packets\n"
    rows = "".join(f"{name}: {received} 1 0 0 0 0 0 0 {2 * received} 9 0 0 0 0 0 0\n" for name in ("lo", " eth0"))
    (proc / "net" / "dev").write_text(head + rows)


def test_samples_are_those_of_the_kernels_files(tmp_path: Path) -> None:
    write(tmp_path, 1000, 1000)
    metrics = SystemMetrics(tmp_path, proc=tmp_path)
    write(tmp_path, 1300, 1100, received=6_000_000)
    sample = metrics.sample()
    assert sample["system/cpu_utilization_percentage"] == 75.0  # since it began, not since the machine did; a guest's time once
    assert sample["system/system_memory_usage_megabytes"] == round(3000 * 1024 / 1e6, 1)
    assert sample["system/system_memory_usage_percentage"] == 75.0
    assert sample["system/network_receive_megabytes"] == 10.0 and sample["system/network_transmit_megabytes"] == 20.0
    assert 0 < sample["system/disk_usage_percentage"] <= 100 and sample["system/disk_available_megabytes"] > 0
    assert "system/cpu_utilization_percentage" not in metrics.sample()  # no time has passed


def test_names_are_mlflows_own() -> None:
    pytest.importorskip("mlflow")
    spec = importlib.util.find_spec("mlflow.system_metrics.metrics.base_metrics_monitor")
    assert spec is not None and spec.origin is not None
    text = "".join(path.read_text(encoding="utf-8") for path in Path(spec.origin).parent.glob("*_monitor.py"))
    theirs = {name.replace("{i}", "3") for name in re.findall(r'_metrics\[f?"([^"]+)"\]', text)}
    ours = {name.removeprefix(PREFIX) for name in _watched().sample()}
    assert len(ours) == 8 + 5 and ours <= theirs and PREFIX == "system/"
    assert {name for name in theirs if not name.startswith("gpu")} == {name for name in ours if not name.startswith("gpu")}


def _watched() -> SystemMetrics:
    metrics = SystemMetrics(Path("/"), Gpus(Nvml()))
    time.sleep(0.05)  # a tick of the kernel's clock
    return metrics


class Nvml:
    """One GPU, the fourth of the machine, whose memory controller can fall silent."""

    silent = False

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return "card"

    def nvmlDeviceGetIndex(self, handle: str) -> int:
        return 3

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        if self.silent:
            raise RuntimeError("GPU is lost")
        return SimpleNamespace(used=2 * MIB, total=8 * MIB)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 300_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 600_000


def test_a_gpu_that_falls_silent_is_left_out_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = Nvml()
    gpus = Gpus(nvml)
    assert gpus.read() == [Reading(3, 2 * MIB, 8 * MIB, 0.5, 300.0, 600.0)]
    sample = SystemMetrics(Path("/"), gpus).sample()
    assert sample["system/gpu_3_memory_usage_percentage"] == 25.0 and sample["system/gpu_3_power_usage_percentage"] == 50.0
    nvml.silent = True
    sample = SystemMetrics(Path("/"), gpus).sample()
    assert "system/gpu_3_memory_usage_percentage" not in sample and sample["system/gpu_3_utilization_percentage"] == 50.0
    usage = Usage(gpus)
    assert usage.gpus() == [] and math.isnan(usage.gpu_used(3))


@pytest.mark.parametrize("visible", ["0", "", "-1"])
def test_where_there_is_no_gpu_nobody_watches_one(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    """No driver, or a driver and a process that may use none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("lehr.monitoring.gpus.load", Nvml)
    assert (Gpus.here() is not None) == (visible == "0")

    def absent() -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr("lehr.monitoring.gpus.load", absent)
    assert Gpus.here() is None


def test_where_nothing_can_be_read_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    """No /proc, and files of it that hold something else."""
    for proc in (tmp_path / "none", tmp_path):
        metrics = SystemMetrics(tmp_path / "not" / "yet", proc=proc)
        assert {name.split("_")[0] for name in metrics.sample()} == {"system/disk"}
        assert machine.tree_memory(proc) == machine.Memory(0, 0)
        for name in ("stat", "meminfo", "net/dev"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"\xff junk\n\n: x\n")
    usage = Usage(read=lambda: machine.Memory(0, 0))
    assert math.isnan(usage.resident()) and math.isnan(usage.peak())


def test_memory_counts_this_process_and_what_descends_from_it() -> None:
    alone = machine.tree_memory()
    own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert 0.5 * own <= alone.now <= alone.peak
    code = "block = bytearray(200 * 2**20); print('there', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    both = machine.tree_memory()
    child.communicate("\n")
    assert both.now - alone.now >= 195 * MIB and child.pid not in machine.descendants()


def test_the_most_memory_counts_a_shared_page_once_and_stays_when_it_is_given_back(tmp_path: Path) -> None:
    """A child that maps the 200 MiB that this process maps adds little; one with 200 MiB of its own adds them."""
    shared = tmp_path / "shared"
    shared.write_bytes(b"x" * (200 * MIB))
    touch = "import mmap; f = open(%r, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); n = sum(m[::4096]); "
    with shared.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert len(mapped[::4096])
        alone = peak_memory.tree_share()
        peak = peak_memory.PeakMemory(seconds=0.1)
        with _child(touch % str(shared)):
            both = peak_memory.tree_share()
        assert alone > 200 * MIB and both - alone < 50 * MIB
        with _child("block = bytearray(200 * 2**20); "):
            assert (peak.bytes() or 0) - alone > 195 * MIB
        most = peak.bytes()
        peak.close()
    assert most is not None and most - alone > 195 * MIB and peak_memory.tree_share() < alone
    assert peak_memory.tree_share(tmp_path) == 0


@contextmanager
def _child(code: str) -> Iterator[None]:
    ready = code + "print('there', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", ready], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    yield
    child.communicate("\n")


def test_the_peak_never_falls_and_one_scrape_looks_once() -> None:
    looks = iter([machine.Memory(10, 40), machine.Memory(5, 20)])
    clock = SimpleNamespace(now=0.0)
    usage = Usage(read=lambda: next(looks), now=lambda: clock.now)
    assert (usage.resident(), usage.peak()) == (10, 40) == (usage.resident(), usage.peak())
    clock.now = 2.0
    assert (usage.resident(), usage.peak()) == (5, 40)
