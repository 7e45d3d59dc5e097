"""Exact multiplication: integers as floating point numbers, compared bit by bit with a precomputed reference.

All partial sums stay below 2^24, so that float32 accumulation in any order is exact: there is one right answer, to the bit.
Scaling the operands by powers of two changes only exponents, so every pass has the same reference, scaled. Passes with positive
operands exercise all 24 bits of the accumulator's significand, signed ones its sign, the scales its exponent bits.
The 256 x 256 tile is repeated over the whole output, so that on a GPU every multiprocessor works on it while the reference
stays small. The reference's digest is a constant below: a host with faulty arithmetic must not confirm itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lehr.infra.pod.probes.result import hardware, inconclusive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Multiply = Callable[[Floats, Floats], Floats]

TILE = 256  # 255^2 * 256 < 2^24
SEED = 0x1E47


@dataclass(frozen=True)
class Pass:
    """Operands of one multiplication: uniform integers in [low, high], without 0, times 2^scale_a and 2^scale_b."""

    low: int
    high: int
    scale_a: int
    scale_b: int


PASSES = (
    Pass(-255, 255, 0, 0),
    Pass(128, 255, 0, 0),
    Pass(-255, 255, -30, -30),
    Pass(-255, 255, -50, -50),
    Pass(-255, 255, 30, 30),
    Pass(128, 255, -60, 0),
)
# SHA-256 over the int64 products of all passes, in order, little-endian; tests/infra/test_probes.py recomputes it in Python.
REFERENCE = "53b3fe3cf7a739bc40132cd7b65bb90bbecf7ec35f71b68b053c951b93a62f44"


def _mixed(seed: int, count: int) -> NDArray[np.uint64]:
    """splitmix64 of seed .. seed + count: the same on every machine and in every version of NumPy."""
    import numpy as np

    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * golden
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def integers(which: Pass, seed: int, size: int = TILE) -> NDArray[np.int64]:
    """(size, size) operands."""
    import numpy as np

    span = np.uint64(which.high - which.low + 1)
    values = (_mixed(seed, size * size) % span).astype(np.int64) + which.low
    values[values == 0] = which.high  # a zero would hide a faulty bit of the other operand
    found: NDArray[np.int64] = values.reshape(size, size)
    return found


def operands(which: Pass, number: int, size: int = TILE) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return integers(which, SEED + 2 * number, size), integers(which, SEED + 2 * number + 1, size)


def digest(size: int = TILE) -> str:
    """SHA-256 of the exact products of all passes."""
    found = hashlib.sha256()
    for number, which in enumerate(PASSES):
        a, b = operands(which, number, size)
        found.update((a @ b).astype("<i8").tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """One pass: float32 operands (size, size), and the expected product, float32 (size, size)."""

    a: Floats
    b: Floats
    expected: Floats


def prepare(size: int = TILE) -> list[Prepared]:
    """All passes. Raises CheckFailed if this host's integer arithmetic does not yield the reference."""
    import numpy as np

    if size == TILE and digest() != REFERENCE:
        raise hardware("HostArithmeticMismatch", "the host's own integer product differs from the reference")
    found = []
    for number, which in enumerate(PASSES):
        a, b = operands(which, number, size)
        product = (a @ b).astype(np.float64) * 2.0 ** (which.scale_a + which.scale_b)
        fa, fb = ((m * 2.0**s).astype(np.float32) for m, s in ((a, which.scale_a), (b, which.scale_b)))
        found.append(Prepared(fa, fb, product.astype(np.float32)))
    return found


def mismatches(got: Floats, expected: Floats) -> int:
    """The number of elements that differ in any bit."""
    import numpy as np

    return int(np.count_nonzero(got.view(np.int32) != expected.view(np.int32)))


def check_with(multiply: Multiply, prepared: list[Prepared]) -> None:
    """Raises CheckFailed (MatmulMismatch) if any bit of a pass is wrong. For one tile, on the host."""
    for number, part in enumerate(prepared):
        wrong = mismatches(multiply(part.a, part.b), part.expected)
        if wrong:
            raise hardware("MatmulMismatch", f"pass {number}: {wrong} of {part.expected.size} elements differ")


def run() -> str:
    """The check on every device of this pod, or on the CPU if there is none. Raises CheckFailed."""
    import torch

    prepared = prepare()
    if not torch.cuda.is_available():
        check_with(_on_cpu, prepared)
        return f"cpu: {len(prepared)} passes exact"
    # TF32 and reduced-precision sums round: the product would not be exact.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    for index in range(torch.cuda.device_count()):
        try:
            _on_gpu(torch.device("cuda", index), prepared)
        except torch.OutOfMemoryError as error:
            raise inconclusive("DeviceMemoryTaken", f"gpu {index}: {error}") from error
    return f"{torch.cuda.device_count()} gpus: {len(prepared)} passes exact"


def _on_cpu(a: Floats, b: Floats) -> Floats:
    import torch

    found: Floats = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return found


def _on_gpu(device: Any, prepared: list[Prepared], repeats: int = 32) -> None:
    """bf16 tensor cores with float32 results, then float32 units; (repeats * TILE)^2 outputs each."""
    import torch

    for number, part in enumerate(prepared):
        expected = torch.from_numpy(part.expected).to(device).view(torch.int32)
        a = torch.from_numpy(part.a).to(device).repeat(repeats, 1)
        b = torch.from_numpy(part.b).to(device).repeat(1, repeats)
        for name in ("bf16", "float32"):
            got = torch.mm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32) if name == "bf16" else a @ b
            tiles = got.view(torch.int32).view(repeats, TILE, repeats, TILE)
            wrong = int((tiles != expected[None, :, None, :]).sum())
            # One tile is compared on the host too, as a faulty GPU may also compare wrongly.
            host = mismatches(got[:TILE, -TILE:].contiguous().cpu().numpy(), part.expected)
            if wrong or host:
                where = f"gpu {device.index}, {name}, pass {number}"
                raise hardware("MatmulMismatch", f"{where}: {max(wrong, host)} of {got.numel()} elements differ")
