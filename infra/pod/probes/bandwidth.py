"""Copies between host and device and within the device, against floors per GPU model. Without a floor: reported only."""

from __future__ import annotations

import time
from collections.abc import Callable

from lehr.infra.pod.probes.result import performance
from lehr.runtime.environment import amount

BYTES = 256 * 2**20
MOST_SPEED = 1e12  # GB/s: a higher floor must be a typing error
# GB/s, about half of what a healthy machine reaches: PCIe trained down by one generation or to half its lanes fails.
FLOORS: dict[str, dict[str, float]] = {
    "H200": {"h2d": 25.0, "d2h": 25.0, "d2d": 1500.0},
    "H100": {"h2d": 25.0, "d2h": 25.0, "d2d": 1000.0},
    "A100": {"h2d": 12.0, "d2h": 12.0, "d2d": 600.0},
}


def floors_of(model: str) -> dict[str, float]:
    """Floors for a GPU model's name; LEHR_FLOOR_H2D, _D2H, _D2D (GB/s) override them."""
    found = dict(next((values for name, values in FLOORS.items() if name in model), {}))
    for name in ("h2d", "d2h", "d2d"):
        own = amount(f"LEHR_FLOOR_{name.upper()}", -1.0, most=MOST_SPEED)
        if own >= 0:
            found[name] = own
    return found


def run() -> str:
    """Measure all devices. Raises CheckFailed (H2DBandwidthLow, ...) for one below a floor."""
    import torch

    if not torch.cuda.is_available():
        source = torch.ones(32 * 2**20, dtype=torch.uint8)
        target = torch.empty_like(source)
        speed = _gigabytes_per_second(source.numel(), lambda: target.copy_(source), lambda: None)
        judge("cpu", "cpu", {"d2d": speed})
        return f"cpu copy {speed:.1f} GB/s"
    parts = []
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        host = torch.ones(BYTES, dtype=torch.uint8, pin_memory=True)
        one, other = torch.empty(BYTES, dtype=torch.uint8, device=device), torch.empty(BYTES, dtype=torch.uint8, device=device)
        wait: Callable[[], object] = lambda: torch.cuda.synchronize(device)  # noqa: B023 - called within this round
        speeds = {
            "h2d": _gigabytes_per_second(BYTES, lambda: one.copy_(host, non_blocking=True), wait),  # noqa: B023
            "d2h": _gigabytes_per_second(BYTES, lambda: host.copy_(one, non_blocking=True), wait),  # noqa: B023
            "d2d": _gigabytes_per_second(BYTES, lambda: other.copy_(one), wait),  # noqa: B023
        }
        judge(torch.cuda.get_device_name(device), f"gpu {index}", speeds)
        parts.append("/".join(f"{speed:.0f}" for speed in speeds.values()))
    return f"h2d/d2h/d2d GB/s: {' '.join(parts)}"


def judge(model: str, where: str, speeds: dict[str, float]) -> None:
    """Raises CheckFailed for the first speed (GB/s) below its floor."""
    for name, floor in floors_of(model).items():
        if name in speeds and speeds[name] < floor:
            raise performance(f"{name.upper()}BandwidthLow", f"{where}: {speeds[name]:.1f} GB/s, floor {floor:g}")


def _gigabytes_per_second(size: int, copy: Callable[[], object], wait: Callable[[], object]) -> float:
    """The best of three, after one to warm up."""
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        copy()
        wait()
        best = max(best, size / (time.perf_counter() - began) / 1e9)
    return best
