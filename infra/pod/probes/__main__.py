"""The preflight init container: `python -m lehr.infra.pod.probes`. Always exits 0: gate and controller read the verdict.

Environment: LEHR_VERDICT (file in the volume that the gate shares), LEHR_TERMINATION_LOG (the pod's termination message),
LEHR_PROBE_SECONDS (45), LEHR_SUITE (set in a revalidation Job: the checks are repeated for LEHR_PROBE_SOAK_SECONDS, 600),
LEHR_EXPECTED_GPUS, LEHR_PROBE_<CHECK>=off for each check, LEHR_FLOOR_H2D, _D2H, _D2D (GB/s),
LEHR_COLLECTIVE_SECONDS (15).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from lehr.infra.fleet.views import CheckResult, Outcome, Verdict
from lehr.infra.pod.probes import VERSION
from lehr.infra.pod.probes.runner import checks, child, message, run_all
from lehr.runtime.environment import amount

SECONDS = 45.0
SOAK_SECONDS = 600.0
MARGIN = 3.0  # seconds for starting the interpreter, killing the child, writing the verdict


def main(arguments: list[str]) -> int:
    """Exit code 0, whatever happens; the child's exit code is its own."""
    if arguments == ["--child"]:
        # Libraries print to standard output (NCCL its version): redirect that to stderr, and keep the pipe for our lines.
        with os.fdopen(os.dup(1), "wb") as out:
            os.dup2(2, 1)
            child(checks(), out, soak())
        return 0
    report_verdict(lambda: run_all(soak() + amount("LEHR_PROBE_SECONDS", SECONDS) - MARGIN))
    return 0


def report_verdict(judge: Callable[[], Verdict]) -> None:
    """Print and publish the verdict that `judge` returns."""
    try:
        verdict = judge()
    except Exception as error:  # noqa: BLE001 - a bug here must neither cordon a node nor hold a pod
        broke = CheckResult("runner", Outcome.INCONCLUSIVE, "CheckBroke", f"{type(error).__name__}: {error}"[:300])
        verdict = Verdict(Outcome.INCONCLUSIVE, VERSION, broke.check, broke.reason, broke.detail, results=(broke,))
    text = message(verdict)
    print(text, flush=True)
    publish(text)


def soak() -> float:
    """Seconds for which the checks are repeated: 0 before a task, more in a revalidation Job."""
    return amount("LEHR_PROBE_SOAK_SECONDS", SOAK_SECONDS) if os.environ.get("LEHR_SUITE") else 0.0


def publish(text: str) -> None:
    """Write the verdict for the gate and for the kubelet. A path that cannot be written is only reported."""
    shared = Path(os.environ.get("LEHR_VERDICT", "/lehr/verdict.json"))
    log = Path(os.environ.get("LEHR_TERMINATION_LOG", "/dev/termination-log"))
    try:
        part = shared.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(shared)  # atomic: the gate sees the whole file or none
    except OSError as error:
        print(f"{shared}: {error}", file=sys.stderr)
    try:
        log.write_text(text, encoding="utf-8")  # written in place: a file mounted by the kubelet cannot be replaced
    except OSError as error:
        print(f"{log}: {error}", file=sys.stderr)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # no interpreter shutdown: a driver's hanging thread would keep the pod from starting
