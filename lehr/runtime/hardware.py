"""The machine's capabilities, found without loading torch."""

from __future__ import annotations

import ctypes
import shutil
import sys
from functools import cache
from pathlib import Path

# mallopt's parameters (glibc's malloc.h), with values for a process that allocates the same buffers in every step.
_MALLOC = {-1: 2**31 - 1, -2: 64 * 2**20, -3: 2**30}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD


@cache
def bf16_units() -> bool:
    """Whether this machine multiplies bf16 in hardware: `avx512_bf16` or `amx_bf16` on x86, `bf16` on ARM under Linux.

    Without it bf16 is emulated and slower than fp32, so False is the safe answer if nothing is known.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    flags = set(next(lines, "").partition(":")[2].split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def cpp_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs for kernels on a CPU and for kernel launchers on a GPU."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def keep_freed_memory() -> None:
    """Make glibc keep freed memory: a training step frees and allocates the same megabytes, and returning them to the kernel in
    between costs a page fault for every 4 KiB, up to a fifth of a small model's step. Other C libraries are left as they
    are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)
