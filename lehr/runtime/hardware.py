"""What this machine can do, asked without loading torch."""

from __future__ import annotations

import ctypes
import shutil
import sys
from functools import cache
from pathlib import Path

# mallopt's parameters (malloc.h of glibc) and the values for a process that asks for the same buffers step after step.
_MALLOC = {-1: 2**31 - 1, -2: 64 * 2**20, -3: 2**30}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD


@cache
def bf16_units() -> bool:
    """Whether this machine multiplies bf16 in hardware: `avx512_bf16` or `amx_bf16` on x86, `bf16` on ARM under Linux.

    Elsewhere bf16 is emulated and slower than fp32, so "no" is the safe answer where nothing is known.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    flags = set(next(lines, "").partition(":")[2].split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def cpp_compiler() -> bool:
    """Whether there is what torch.compile builds its kernels with on a CPU, and the launchers of its kernels on a GPU."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed: a training step frees and asks for the same megabytes, and giving them back to the
    kernel in between costs a page fault for every four kilobytes, up to a fifth of a small model's step. Other C libraries
    are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)
