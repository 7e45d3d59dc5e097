"""What single checks make of devices that are broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from lehr.infra.fleet.views import Outcome
from lehr.infra.pod.probes import bandwidth, collective, devices, memory
from lehr.infra.pod.probes.result import Check, CheckFailed, once


def python(code: str) -> list[str]:
    return [sys.executable, "-c", f"import json, os, signal, sys, time\n{code}"]


# Devices


def nvml(**changes: Any) -> SimpleNamespace:
    """The real module's constants and errors, with two sound GPUs behind it."""

    def fields(_handle: Any, numbers: list[int]) -> list[Any]:
        assert numbers == [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=0))]

    sound: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetTotalEccErrors": lambda *_: 0,
        "nvmlDeviceGetRemappedRows": lambda _: (0, 0, 0, 0),
        "nvmlDeviceGetFieldValues": fields,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _: pynvml.nvmlClocksThrottleReasonGpuIdle,
        "nvmlDeviceGetNvLinkState": lambda _, link: int(link < 18),
    }
    return SimpleNamespace(**{**vars(pynvml), **sound, **changes})


def failing(code: int) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise pynvml.NVMLError(code)

    return call


HW, PERF = Outcome.HARDWARE_FAILURE, Outcome.PERFORMANCE_FAILURE


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({}, Outcome.PASS, ""),
        ({"nvmlDeviceGetCount": lambda: 1}, HW, "GPUMissing"),
        ({"nvmlDeviceGetTotalEccErrors": lambda h, *_: 3 * (h == 1)}, HW, "ECCUncorrectable"),
        ({"nvmlDeviceGetRemappedRows": lambda _: (0, 1, 0, 1)}, HW, "RowRemapFailed"),
        ({"nvmlDeviceGetRemappedRows": lambda _: (0, 1, 1, 0)}, PERF, "RowRemapPending"),
        ({"nvmlDeviceGetNvLinkState": lambda h, link: int(link < 18 - h)}, HW, "NVLinkDown"),
        ({"nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0x8}, PERF, "ClocksSlowed"),
        (
            {"nvmlDeviceGetFieldValues": lambda *_: [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=2))]},
            HW,
            "RecoveryActionNeeded",
        ),
        ({"nvmlDeviceGetTotalEccErrors": failing(pynvml.NVML_ERROR_NOT_SUPPORTED)}, Outcome.PASS, ""),
        ({"nvmlDeviceGetTotalEccErrors": failing(pynvml.NVML_ERROR_GPU_IS_LOST)}, HW, "DriverError"),
        ({"nvmlInit": failing(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)}, HW, "DriverError"),
        ({"nvmlInit": failing(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)}, Outcome.INCONCLUSIVE, "NVMLMissing"),
    ],
)
def test_what_the_driver_says(changes: dict, outcome: Outcome, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_EXPECTED_GPUS", "2")
    found = once(Check("nvml", lambda: devices.run(nvml(**changes)), 1.0))
    assert (found.outcome, found.reason) == (outcome, reason)


def test_memory_pattern_check_sees_a_stuck_word(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    real = torch.Tensor.fill_

    def stuck(self: torch.Tensor, value: int) -> torch.Tensor:
        real(self, value)
        self[77] |= 1 << 40
        return self

    memory.test_block(torch.device("cpu"), [1 << 20])
    monkeypatch.setattr(torch.Tensor, "fill_", stuck)
    with pytest.raises(CheckFailed, match="1 words differ"):
        memory.test_block(torch.device("cpu"), [1 << 20])


def test_bandwidth_is_judged_by_the_models_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"h2d": 50.0, "d2h": 50.0, "d2d": 2000.0}
    bandwidth.judge("NVIDIA H100 80GB HBM3", "gpu 0", good)
    bandwidth.judge("another", "gpu 0", {"h2d": 0.1})
    with pytest.raises(CheckFailed, match="H2DBandwidthLow"):
        bandwidth.judge("NVIDIA H100 80GB HBM3", "gpu 0", {**good, "h2d": 12.0})
    monkeypatch.setenv("LEHR_FLOOR_D2D", "3000")
    with pytest.raises(CheckFailed, match="D2DBandwidthLow"):
        bandwidth.judge("another", "gpu 0", good)


def test_collective_that_sums_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [python(f"sys.exit({code})") for code in (0, collective.MISMATCH)]
    monkeypatch.setattr(collective, "_start", lambda rank, world, store: subprocess.Popen(wrong[rank], stderr=subprocess.PIPE))
    with pytest.raises(CheckFailed, match=r"CollectiveMismatch.*\[1\]"):
        collective.run()
