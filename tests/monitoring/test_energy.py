"""The published energy tables as golden rows, and the meters against counters that the test writes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lehr.monitoring.energy import (
    CpuEstimate,
    ItJoules,
    Nvml,
    PowerMeter,
    Rapl,
    carbon_kg,
    facility_energy,
    kwh,
    tree_cpu_seconds,
    water_liters,
)

MWH = 3.6e9


@pytest.mark.parametrize(
    ("it_mwh", "pue", "intensity", "tonnes", "wue", "kiloliters"),
    [
        (131, 1.2, 0.332, 52, 1.29, 202),  # OLMo 2 7B: OLMo 2, Table 19
        (257, 1.12, 0.351, 101, 3.10, 892),  # OLMo 2 13B
        (104, 1.1, 0.610, 70, 4.26, 487),  # OLMo 7B
    ],
)
def test_olmo2_table_19(it_mwh: float, pue: float, intensity: float, tonnes: float, wue: float, kiloliters: float) -> None:
    building = facility_energy(ItJoules(it_mwh * MWH), pue)
    assert carbon_kg(building, intensity) / 1000 == pytest.approx(tonnes, abs=0.51)
    assert water_liters(building, wue) / 1000 == pytest.approx(kiloliters, abs=1.0)  # 202.8 is printed as 202


@pytest.mark.parametrize(
    ("gpu_hours", "facility_mwh", "tonnes"),
    [(192_030, 174.6, 68.1), (832_102, 757.0, 295.2), (133_308, 121.2, 47.2)],  # Granite 3.0 2B, 8B, 3B-A800M
)
def test_granite_table_7_whose_power_column_already_holds_the_pue(gpu_hours: float, facility_mwh: float, tonnes: float) -> None:
    building = facility_energy(ItJoules(gpu_hours * 700 * 3600), 1.3)
    assert kwh(building) / 1000 == pytest.approx(facility_mwh, abs=0.25)
    assert carbon_kg(building, 0.39) / 1000 == pytest.approx(tonnes, abs=0.15)


def test_a_pue_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        facility_energy(ItJoules(1.0), 0.9)


def test_estimate_counts_children_that_still_run_and_never_falls() -> None:
    """A child that works is counted while it works, and still counted once it is gone."""
    meter = PowerMeter(10.0, CpuEstimate(10.0))
    code = "import time\nwhile time.process_time() < 0.4: pass\nprint('warm', flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    running = meter.joules()
    assert running >= 0.35 * 10.0
    child.communicate("\n")
    assert meter.joules() >= running
    assert meter.source == "estimated"


def test_estimate_counts_this_process() -> None:
    before, start = tree_cpu_seconds(), time.process_time()
    while time.process_time() < start + 0.2:
        pass
    assert tree_cpu_seconds() - before >= 0.15


def test_rapl_adds_packages_and_memory_over_a_wrap(tmp_path: Path) -> None:
    """Packages and dram count; psys holds both and core is part of a package, so neither may."""
    for zone, name, value in (("0", "package-0", 900), ("0:0", "core", 1), ("0:1", "dram", 5), ("1", "psys", 7)):
        folder = tmp_path / f"intel-rapl:{zone}"
        folder.mkdir()
        (folder / "name").write_text(name)
        (folder / "energy_uj").write_text(f"{value * 1_000_000}\n")
        (folder / "max_energy_range_uj").write_text("1000000000\n")
    meter = PowerMeter(10.0, Rapl(tmp_path, poll_seconds=3600))
    (tmp_path / "intel-rapl:0/energy_uj").write_text("20000000\n")  # 900 J -> 1000 J = 0 -> 20 J
    (tmp_path / "intel-rapl:0:1/energy_uj").write_text("8000000\n")
    for other in ("0:0", "1"):
        (tmp_path / f"intel-rapl:{other}/energy_uj").write_text("999000000\n")
    assert meter.joules() == pytest.approx(120 + 3) and meter.source == "rapl"
    with pytest.raises(FileNotFoundError):
        Rapl(tmp_path / "nowhere")


class FakeNvml:
    """Three GPUs whose counters the test sets, in millijoules."""

    def __init__(self) -> None:
        self.counters = {"0": 1_000_000, "1": 5_000_000, "GPU-abc": 9_000_000}

    def nvmlInit(self) -> None:
        return None

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return str(index)

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self.counters[handle]


@pytest.mark.parametrize(("visible", "joules"), [(None, 3.0), ("1", 2.0), ("GPU-abc,0", 5.0)])
def test_nvml_reads_the_gpus_of_this_process_only(monkeypatch: pytest.MonkeyPatch, visible: str | None, joules: float) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = FakeNvml()
    meter = PowerMeter(10.0, Nvml(library))
    for handle, more in (("0", 1000), ("1", 2000), ("GPU-abc", 4000)):
        library.counters[handle] += more
    assert meter.joules() == joules and meter.source == "nvml"


def test_no_visible_gpu_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match="no GPU"):
        Nvml(FakeNvml())
