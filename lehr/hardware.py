"""What this machine can do, asked without loading torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path


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
