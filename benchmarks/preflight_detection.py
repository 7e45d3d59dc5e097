"""How much the exact multiplication sees, and how often it cries wolf. Prints a table; `--clean N` sets the clean starts.

python -m benchmarks.preflight_detection --clean 100000
"""

from __future__ import annotations

import argparse
import time

from lehr.infra.pod.probes import exact, inject


def detection(seeds: int, size: int) -> None:
    prepared = exact.prepare(size)
    for kind in inject.KINDS:
        faults = [fault for seed in range(seeds) for fault in inject.all_faults(seed) if fault.kind == kind]
        missed = [fault for fault in faults if not inject.is_detected(fault, prepared)]
        print(f"{kind}: {len(faults) - len(missed)} of {len(faults)} = {1 - len(missed) / len(faults):.1%}")
        for fault in missed[:8]:
            print(f"  missed: {fault}")


def clean(starts: int, size: int) -> None:
    """Every start runs all passes with torch, as a node's preflight does on its CPU, and makes its verdict."""
    import torch

    from lehr.infra.fleet.views import Outcome
    from lehr.infra.pod.probes.result import Check, twice
    from lehr.infra.pod.probes.runner import verdict_of

    torch.set_num_threads(1)
    prepared = exact.prepare(size)

    def run() -> str:
        exact.check_with(exact._on_cpu, prepared)
        return ""

    check = Check("matmul", run, 1.0)
    began = time.monotonic()
    alarms = sum(verdict_of([twice(check)], 0.0).outcome is not Outcome.PASS for _ in range(starts))
    print(
        f"clean starts ({size} x {size}, {len(prepared)} passes): {alarms} alarms in {starts}, {time.monotonic() - began:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clean", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=exact.TILE)
    arguments = parser.parse_args()
    detection(arguments.seeds, arguments.size)
    clean(arguments.clean, arguments.size)


if __name__ == "__main__":
    main()
