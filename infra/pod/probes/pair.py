"""One side of a test of the network between two nodes: `python -m lehr.infra.pod.probes.pair`, in a Job on each of them.

The listener (LEHR_PAIR_ROLE=listen) waits for the other side, which is given the listener's address (LEHR_PAIR_ADDRESS). Then
both add integers over all their devices, one pair of devices after another so that each uses its own network path, and compare
the sums exactly. A listener to which nobody connects learns nothing; a side that cannot connect, or whose sums fail, accuses
the pair. LEHR_PAIR_SECONDS (300) is how long the listener waits, LEHR_PAIR_PORT (29400) its port, LEHR_PAIR_CONNECT_SECONDS
(60) how long the other side tries, LEHR_FLOOR_PAIR a floor in GB/s.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import Any

from lehr.infra.pod.probes.__main__ import report_verdict
from lehr.infra.pod.probes.bandwidth import MOST_SPEED
from lehr.infra.pod.probes.result import Check, hardware, inconclusive, performance
from lehr.infra.pod.probes.runner import child_once, run_all
from lehr.runtime.environment import amount, whole

ELEMENTS, ROUNDS = 1 << 24, 10  # 64 MiB in each sum
WORK_SECONDS = 60.0  # for one pair of devices


def _connects() -> float:
    return amount("LEHR_PAIR_CONNECT_SECONDS", 60.0)


def _patience() -> float:
    return amount("LEHR_PAIR_SECONDS", 300.0)


def run() -> str:
    """The check on this side. Raises CheckFailed."""
    import torch
    import torch.distributed as dist

    listens = os.environ.get("LEHR_PAIR_ROLE") == "listen"
    store = _meet(dist, listens)
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 1
    speeds = [_exchange(torch, dist, store, 0 if listens else 1, number) for number in range(devices)]
    floor, slowest = amount("LEHR_FLOOR_PAIR", 0.0, most=MOST_SPEED), min(speeds)
    if slowest < floor:
        raise performance("PairSlow", f"{slowest:.2f} GB/s, floor {floor:g}")
    return f"{devices} devices, {slowest:.2f} GB/s"


def _meet(dist: Any, listens: bool) -> Any:
    port, patience = whole("LEHR_PAIR_PORT", 29400), _patience()
    host = "localhost" if listens else os.environ.get("LEHR_PAIR_ADDRESS", "")
    try:
        wait = timedelta(seconds=patience if listens else _connects())
        store = dist.TCPStore(host, port, 2, is_master=listens, wait_for_workers=False, timeout=wait)
        store.set("listen" if listens else "connect", "here")
        store.wait(["connect" if listens else "listen"], wait)
    except (RuntimeError, OSError) as error:
        if listens:
            raise inconclusive("PairAlone", f"nobody connected within {patience:g} s") from error
        raise hardware("PairUnreachable", f"{host}: {error}") from error
    return store


def _exchange(torch: Any, dist: Any, store: Any, rank: int, number: int) -> float:
    """Run an all-reduce between the two nodes' devices of this number; returns GB/s. Raises CheckFailed."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", number) if cuda else torch.device("cpu")
    try:
        if cuda:
            torch.cuda.set_device(device)
        group = dist.PrefixStore(str(number), store)
        limit = timedelta(seconds=WORK_SECONDS)
        dist.init_process_group("nccl" if cuda else "gloo", store=group, rank=rank, world_size=2, timeout=limit)
        elements = ELEMENTS if cuda else ELEMENTS >> 4
        base = torch.arange(elements, device=device, dtype=torch.float32) % 1021
        began = time.perf_counter()
        for _ in range(ROUNDS):
            values = base * (rank + 1)  # integers below 2^24: exact in any order
            dist.all_reduce(values)
            if not torch.equal(values, base * 3):
                raise hardware("PairMismatch", f"device {number}: the sum is wrong")
        seconds = time.perf_counter() - began
        dist.destroy_process_group()
    except RuntimeError as error:
        raise hardware("PairFailed", f"device {number}: {error}") from error
    return float(ROUNDS * elements * 4 / seconds / 1e9)


def main(arguments: list[str]) -> int:
    """Exit code 0, whatever happens: the controller reads the verdict."""
    if arguments == ["--child"]:
        with os.fdopen(os.dup(1), "wb") as out:
            os.dup2(2, 1)  # output of libraries goes to stderr, and not between our lines
            child_once(Check("pair", run, _connects()), out)
        return 0
    command = [sys.executable, "-m", "lehr.infra.pod.probes.pair", "--child"]
    report_verdict(lambda: run_all(_patience() + _connects() + 2 * WORK_SECONDS, command))
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # no interpreter shutdown: a driver's hanging thread would keep the Job from ending
