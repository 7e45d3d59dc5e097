"""`lehr doctor` where torch, driver and GPUs do not fit, by a stand-in of NVML: no GPU is here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from lehr.monitoring.doctor import gpus
from lehr.monitoring.doctor.gpus import Build, Driver, Gpu
from lehr.runtime.findings import Verdict
from tests.findings import said

OK, WARN, FAIL, UNSEEN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNSEEN
GIB = 1 << 30
H100 = Gpu("NVIDIA H100", (9, 0), 0, 80 * GIB)
NEW = Driver("580.65.06", 13000, [H100, H100])
CUDA13 = Build("2.13.0+cu130", "13.0", None, True, 2, ("sm_75", "sm_80", "sm_90", "compute_90"))
ABSENT = Driver(missing="libnvidia-ml.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("built", "driver", "pci", "verdict", "words"),
    [
        (CUDA13, Driver("550.54", 12040, [H100]), 1, OK, ["driver 550.54"]),
        (CUDA13, NEW, 2, OK, ["CUDA 13.0", "driver 580.65.06 serves CUDA 13.0"]),
        (Build("2.13.0+cu130", "13.0"), ABSENT, 0, OK, ["no GPU here"]),
        (Build("2.13.0+cu130", "13.0"), ABSENT, 2, WARN, ["2 GPUs are in this machine", "--gpus all"]),
        (Build("2.13.0", "13.0"), Driver(missing="no pynvml", package=False), 1, UNSEEN, ["lehr[track]"]),
        (Build("2.13.0+cpu"), NEW, 2, FAIL, ["for CPUs only, so 2 GPUs lie idle", "torch for CUDA 13"]),
        (Build("2.13.0+cu130", "13.0"), Driver("550.54", 12040, [H100]), 1, FAIL, ["serves CUDA 12.4", "driver 580 or newer"]),
        (Build("2.13.0+cu126", "12.6"), Driver("550.54", 12040, [H100]), 1, FAIL, ["torch finds no GPU"]),
        (Build("2.13.0+cu126", "12.6", None, True, 1), Driver("535.1", 12020, [H100]), 1, OK, ["CUDA 12.2"]),
        (
            Build("2.13.0", "13.0"),
            Driver(broken="Driver/library version mismatch"),
            1,
            FAIL,
            ["version mismatch", "started again"],
        ),
        (Build("", broken="ImportError: libcudart.so"), NEW, 1, FAIL, ["libcudart.so"]),
        (Build("2.13.0", None, "7.0", True, 4), ABSENT, 0, OK, ["ROCm 7.0", "4 GPUs"]),
        (CUDA13, Driver(missing="no pynvml", package=False), 2, OK, ["CUDA 13.0, with 2 GPUs"]),
        (CUDA13, Driver("580.1", 13000), 0, OK, ["no GPU for this process"]),
    ],
)
def test_torch_against_the_driver(built: Build, driver: Driver, pci: int, verdict: Verdict, words: list[str]) -> None:
    said(gpus.torch_fits(built, driver, pci), verdict, *words)


@pytest.mark.parametrize(
    ("built", "cards", "verdict", "words"),
    [
        (CUDA13, [H100, H100], OK, ["2 x NVIDIA H100, 80 GiB each"]),
        (CUDA13, [H100], FAIL, ["1 x NVIDIA H100, of which torch sees 2"]),
        (CUDA13, [H100, Gpu("Tesla P100", (6, 0), 0, GIB)], FAIL, ["no kernels for Tesla P100 (compute capability 6.0)"]),
        (CUDA13, [H100, Gpu("NVIDIA B300", (10, 3), 0, GIB)], OK, ["1 x NVIDIA B300"]),
        (CUDA13, [H100, Gpu("Tesla T4", (7, 5), 0, GIB)], WARN, ["Tesla T4 has no bf16 units", "precision: fp32"]),
        (CUDA13, [H100, Gpu("A100", (8, 0), 30 * GIB, 80 * GIB)], WARN, ["somebody is at work already (30 of 80 GiB)"]),
        (CUDA13, [H100, Gpu("NVIDIA H100 MIG 1g.10gb", None, 0, GIB)], OK, ["1 x NVIDIA H100 MIG"]),
        (Build("2.13.0"), [], OK, ["none"]),
    ],
)
def test_gpus(built: Build, cards: list[Gpu], verdict: Verdict, words: list[str]) -> None:
    said(gpus.devices(built, Driver("580", 13000, cards)), verdict, *words)


def nvml(**changes: Any) -> SimpleNamespace:
    """NVML's constants and errors with one card behind them."""
    sound: dict[str, Any] = {
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _: "NVIDIA H100",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=0, total=80 * GIB),
        "nvmlDeviceGetCudaComputeCapability": lambda _: (9, 0),
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
    }
    return SimpleNamespace(**{**vars(pynvml), **sound, **changes})


def test_what_nvml_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> Any:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    def loads(error: Exception) -> Callable[[], Any]:
        def load() -> Any:
            raise error

        return load

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.driver(nvml) == Driver("580.65.06", 13000, [H100])
    assert "lost" in gpus.driver(lambda: nvml(nvmlDeviceGetMemoryInfo=lost)).broken
    assert gpus.driver(lambda: nvml(nvmlDeviceGetCudaComputeCapability=lost)).gpus == [Gpu("NVIDIA H100", None, 0, 80 * GIB)]
    assert gpus.driver(loads(OSError("libnvidia-ml.so.1"))).missing
    assert not gpus.driver(loads(ModuleNotFoundError("pynvml"))).package
    assert "mismatch" in gpus.driver(loads(pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))).broken
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.driver(nvml).gpus == []
    said(gpus.torch_fits(CUDA13, gpus.driver(nvml), 1), OK, "CUDA_VISIBLE_DEVICES hides them")


def test_gpus_on_the_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"), ("c", "0x8086", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert gpus.on_pci(tmp_path) == 1 and gpus.on_pci(tmp_path / "none") == 0


def test_torch_is_asked_and_one_that_does_not_load_is_said(tmp_path: Path, repository: Path) -> None:
    built = gpus.build()
    assert built.version.startswith("2.") and not built.broken
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open\\nshared object')")
    code = "from lehr.monitoring.doctor import gpus; print(gpus.build())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=True)
    assert "broken='ImportError: libcudart.so: cannot open shared object'" in done.stdout
