"""Patterns written to memory and read back: alternating bits both ways, all zeros, all ones, and each word's own address."""

from __future__ import annotations

from typing import Any

from lehr.infra.pod.probes.result import hardware, inconclusive

CPU_BYTES = 64 * 2**20
CHUNK_BYTES = 2**30
GPU_SHARE = 0.9  # of the free memory; the comparisons need some too
PATTERNS = (0x5555555555555555, -0x5555555555555556, 0, -1)


def run() -> str:
    """Test all free memory of every GPU, or a small block on a CPU. Raises CheckFailed (MemoryPatternMismatch)."""
    import torch

    if not torch.cuda.is_available():
        test_block(torch.device("cpu"), [CPU_BYTES])
        return f"cpu: {CPU_BYTES >> 20} MiB"
    total = 0
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        free, _ = torch.cuda.mem_get_info(device)
        whole, rest = divmod(int(free * GPU_SHARE), CHUNK_BYTES)
        try:
            test_block(device, [CHUNK_BYTES] * whole + ([rest] if rest >= 2**20 else []))
        except torch.OutOfMemoryError as error:
            raise inconclusive("DeviceMemoryTaken", f"gpu {index}: {error}") from error
        torch.cuda.empty_cache()
        total += free
    return f"{total / 2**30:.0f} GiB of GPU memory"


def test_block(device: Any, sizes: list[int]) -> None:
    """Test blocks of these sizes, all held at once, so that each pattern fills the whole memory before any of it is read."""
    import torch

    blocks = [torch.empty(size // 8, dtype=torch.int64, device=device) for size in sizes]
    for pattern in PATTERNS:
        for block in blocks:
            block.fill_(pattern)
        for number, block in enumerate(blocks):
            _expect(int((block != pattern).sum()), device, f"block {number}, pattern {pattern & (2**64 - 1):#x}")
    start = 0
    addresses = [torch.arange(1 << 20, dtype=torch.int64, device=device)]
    for block in blocks:
        for piece in _pieces(block):
            piece.copy_(addresses[0][: piece.numel()]).add_(start)
            start += piece.numel()
    start = 0
    for number, block in enumerate(blocks):
        for piece in _pieces(block):
            off = int((piece - start != addresses[0][: piece.numel()]).sum())
            _expect(off, device, f"block {number}, addresses")
            start += piece.numel()


def _expect(wrong: int, device: Any, where: str) -> None:
    if wrong:
        raise hardware("MemoryPatternMismatch", f"{device}, {where}: {wrong} words differ")


def _pieces(block: Any) -> list[Any]:
    return [block[i : i + (1 << 20)] for i in range(0, block.numel(), 1 << 20)]
