"""The machine and the process that made a run, as its report tells them."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lehr
from lehr.artifacts.artifact import Artifact
from lehr.config import Recipe
from lehr.report.data import Environment
from lehr.runtime.checkout import commit


def environment(command: str, artifacts: Sequence[Artifact]) -> Environment:
    """What a report says of the machine and the code that made `artifacts`, and the `command` that repeats it."""
    codes = sorted({a.manifest.code[:12] for a in artifacts})
    return Environment(
        command=command,
        python=platform.python_version(),
        torch=_version("torch"),
        cpu=_cpu(),
        cores=os.cpu_count(),
        git_sha=commit()[:12],
        lehr_version=lehr.__version__,
        code_fingerprint=" ".join(codes),
    )


def _version(package: str) -> str:
    """Without loading it: a run that finds everything again needs no torch."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor()


def peak_memory(recipe: Recipe) -> int:
    """Bytes: the largest resident size of this process plus that of the largest rank, once for each of them."""
    unit = 1 if sys.platform == "darwin" else 1024
    rank = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return _own_peak(unit) + rank * (recipe.parallel.processes - 1)


def _own_peak(unit: int) -> int:
    # Linux hands getrusage's figure on to a new program: of a run that a notebook starts it would be the notebook's.
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
