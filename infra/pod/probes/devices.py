"""The GPUs' state according to the driver (NVML): count, ECC errors, remapped rows, recovery action, clocks, NVLink.

NVML's "not supported" is not a failure; every other error of the driver is one, since a dead GPU system processor (GSP) answers
with errors.
"""

from __future__ import annotations

import importlib
from typing import Any

from lehr.infra.pod.probes.result import hardware, inconclusive, performance
from lehr.runtime.environment import whole

EXPECTED = "LEHR_EXPECTED_GPUS"


def run(nvml: Any = None) -> str | None:
    """Check all GPUs; None without GPUs. Raises CheckFailed. Tests pass a replacement of the pynvml module as `nvml`."""
    expected = whole(EXPECTED, 0)
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError as error:
            if expected:
                raise inconclusive("NVMLMissing", str(error)) from error
            return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if expected and not _is_absent(nvml, error):
            raise hardware("DriverError", str(error)) from error
        if expected:
            raise inconclusive("NVMLMissing", str(error)) from error
        return None
    try:
        return _all(nvml, expected)
    except nvml.NVMLError as error:
        raise hardware("DriverError", str(error)) from error
    finally:
        nvml.nvmlShutdown()


def _is_absent(nvml: Any, error: Exception) -> bool:
    return bool(getattr(error, "value", None) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def _all(nvml: Any, expected: int) -> str:
    count = nvml.nvmlDeviceGetCount()
    if count < expected:
        raise hardware("GPUMissing", f"{count} of {expected} GPUs")
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    links = [_active_links(nvml, handle) for handle in handles]
    for index, handle in enumerate(handles):
        _one(nvml, handle, f"gpu {index}")
        if links[index] < max(links):
            raise hardware("NVLinkDown", f"gpu {index}: {links[index]} links, others have {max(links)}")
    return f"{count} gpus, {max(links, default=0)} links each"


def _supported(nvml: Any, call: str, *arguments: Any) -> Any:
    """The call's value; None if the GPU or this version of the driver does not support it."""
    function = getattr(nvml, call, None)
    if function is None:
        return None
    try:
        return function(*arguments)
    except nvml.NVMLError as error:
        unknown = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT)
        if getattr(error, "value", None) in unknown:
            return None
        raise


def _one(nvml: Any, handle: Any, where: str) -> None:
    errors = _supported(
        nvml, "nvmlDeviceGetTotalEccErrors", handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    )
    if errors:
        raise hardware("ECCUncorrectable", f"{where}: {errors} since the driver was loaded")
    rows = _supported(nvml, "nvmlDeviceGetRemappedRows", handle)
    if rows is not None and rows[3]:
        raise hardware("RowRemapFailed", where)
    action = _recovery_action(nvml, handle)
    if action:
        raise hardware("RecoveryActionNeeded", f"{where}: action {action}")
    if rows is not None and rows[2]:  # the memory works; the row is remapped at the next reset
        raise performance("RowRemapPending", where)
    slowed = _supported(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle) or 0
    bad = slowed & (
        nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    )
    if bad:
        raise performance("ClocksSlowed", f"{where}: reasons {bad:#x}")


def _recovery_action(nvml: Any, handle: Any) -> int:
    """The recovery action's number, 0 for none. Needs driver 570 or later, otherwise 0."""
    number = getattr(nvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
    values = _supported(nvml, "nvmlDeviceGetFieldValues", handle, [number]) if number is not None else None
    if not values or values[0].nvmlReturn != nvml.NVML_SUCCESS:
        return 0
    return int(values[0].value.uiVal)


def _active_links(nvml: Any, handle: Any) -> int:
    states = (_supported(nvml, "nvmlDeviceGetNvLinkState", handle, link) for link in range(nvml.NVML_NVLINK_MAX_LINKS))
    return sum(state == 1 for state in states)
