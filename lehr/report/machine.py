"""The machine and the process that made a run, as its report tells them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lehr
from lehr.artifacts.artifact import Artifact
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
