"""The preflight of a pod whose ranks are to start again in it: the same checks as before it started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lehr.infra.fleet.signals import is_bad
from lehr.infra.pod.gate import read
from lehr.infra.pod.pod_template import CHECKED_AGAIN
from lehr.runtime.environment import amount

_MARGIN_SECONDS = 30.0  # beyond what the checks may take: they end by themselves


def failed_check() -> str:
    """Why this node must not be used again; empty if its checks pass, cannot tell, or are not asked for. Takes as long as the
    preflight does. Its verdict goes nowhere else: the pod ends with it, and the next preflight on the node is the
    controller's evidence."""
    if not os.environ.get(CHECKED_AGAIN):
        return ""
    with tempfile.TemporaryDirectory(prefix="lehr-preflight-") as folder:
        verdict = Path(folder) / "verdict.json"
        own = {"LEHR_VERDICT": str(verdict), "LEHR_TERMINATION_LOG": str(Path(folder) / "word")}
        limit = amount("LEHR_PROBE_SECONDS", 45.0) + _MARGIN_SECONDS
        try:
            subprocess.run(
                [sys.executable, "-m", "lehr.infra.pod.probes"], env={**os.environ, **own}, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            return ""  # as a preflight that is killed: no verdict, no evidence
        found = read(verdict)
    return f"{found.reason} ({found.detail})" if found is not None and is_bad(found) else ""
