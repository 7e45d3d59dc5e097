"""Simulated faults for testing the exact check: a multiplier whose hardware has one bad bit. Never used on a node.

The multiplier works like a tensor core: 16 products at a time are added to a float32 accumulator. A stuck bit affects one lane
(one of 16 columns of an operand, or of the output), because a fault in all lanes would be too easy to detect.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np

from lehr.infra.pod.probes.exact import Prepared, check_with
from lehr.infra.pod.probes.result import CheckFailed

if TYPE_CHECKING:
    from lehr.infra.pod.probes.exact import Floats, Multiply

STEP = 16
Kind = Literal["stuck operand bit", "stuck accumulator bit", "flipped output bit"]
KINDS: tuple[Kind, ...] = ("stuck operand bit", "stuck accumulator bit", "flipped output bit")


@dataclass(frozen=True)
class Fault:
    """`bit` 0 is the lowest; operands have 16 (bf16), accumulators and outputs 32 (float32)."""

    kind: Kind
    bit: int
    value: int = 0  # of a stuck bit
    lane: int = 0
    left: bool = True  # which operand
    at: tuple[int, int, int] = (0, 0, 0)  # pass, row, column of a flip


def all_faults(seed: int) -> list[Fault]:
    """Every stuck bit, both values and both operands, in a randomly drawn lane; each output bit flipped once in each pass."""
    random = Random(seed)
    found = [
        Fault("stuck operand bit", bit, value, random.randrange(STEP), left)
        for bit in range(16)
        for value in (0, 1)
        for left in (True, False)
    ]
    found += [Fault("stuck accumulator bit", bit, value, random.randrange(STEP)) for bit in range(32) for value in (0, 1)]
    places = [(number, random.randrange(64), random.randrange(64)) for number in range(6)]
    found += [Fault("flipped output bit", bit, at=place) for bit in range(32) for place in places]
    return found


def is_detected(fault: Fault, prepared: list[Prepared]) -> bool:
    """Whether the exact check fails on hardware with this fault."""
    try:
        check_with(faulty(fault), prepared)
    except CheckFailed:
        return True
    return False


def faulty(fault: Fault) -> Multiply:
    """A multiplier with this fault. It counts its calls as passes 0, 1, ..."""
    calls = [0]

    def multiply(a: Floats, b: Floats) -> Floats:
        number, calls[0] = calls[0], calls[0] + 1
        with np.errstate(all="ignore"):
            if fault.kind == "stuck operand bit":
                return _accumulate(*((_stuck_operand(a, fault), b) if fault.left else (a, _stuck_operand(b.T, fault).T)), None)
            if fault.kind == "stuck accumulator bit":
                return _accumulate(a, b, fault)
            found = _accumulate(a, b, None)
        if number == fault.at[0]:
            found.view(np.uint32)[fault.at[1:]] ^= np.uint32(1 << fault.bit)
        return found

    return multiply


def _stuck(bits: np.ndarray, bit: int, value: int) -> np.ndarray:
    mask = bits.dtype.type(1 << bit)
    found: np.ndarray = bits | mask if value else bits & ~mask
    return found


def _stuck_operand(matrix: Floats, fault: Fault) -> Floats:
    """Apply the fault to the column lanes of a (rows, K) operand as bf16: a float32's upper half, exact for our integers."""
    bits = np.ascontiguousarray(matrix).view(np.uint32).copy()
    lane = bits[:, fault.lane :: STEP]
    lane[:] = _stuck((lane >> np.uint32(16)).astype(np.uint16), fault.bit, fault.value).astype(np.uint32) << np.uint32(16)
    found: Floats = bits.view(np.float32)
    return found


def _accumulate(a: Floats, b: Floats, fault: Fault | None) -> Floats:
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(0, a.shape[1], STEP):
        total += a[:, k : k + STEP] @ b[k : k + STEP]
        if fault is not None:
            lane = total.view(np.uint32)[:, fault.lane :: STEP]
            lane[:] = _stuck(lane, fault.bit, fault.value)
    return total
