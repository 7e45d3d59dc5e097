"""All-reduce among this pod's own devices, on integers, compared exactly. NCCL on GPUs, gloo between two processes on a CPU.

`python -m lehr.infra.pod.probes.collective RANK WORLD STORE` is one rank.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lehr.infra.pod.probes.result import hardware, inconclusive

ELEMENTS = 1 << 20
SECONDS = float(os.environ.get("LEHR_COLLECTIVE_SECONDS", "15"))  # two runs of this and the other checks fit into 45 s
MISMATCH = 3  # exit code of a rank whose sum is wrong


def run() -> str:
    """Run the ranks. Raises CheckFailed: CollectiveMismatch for a wrong sum, CollectiveFailed if there is none in time."""
    import torch

    world = torch.cuda.device_count() if torch.cuda.is_available() else 2
    with tempfile.TemporaryDirectory() as folder:
        ranks = [_start(rank, world, Path(folder) / "store") for rank in range(world)]
        try:
            codes, errors = _wait(ranks)
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
    if MISMATCH in codes:
        raise hardware("CollectiveMismatch", f"ranks {[i for i, code in enumerate(codes) if code == MISMATCH]}")
    if any(codes):
        if torch.cuda.is_available():
            raise hardware("CollectiveFailed", errors)
        raise inconclusive("CollectiveFailed", errors)
    return f"{world} ranks"


def _start(rank: int, world: int, store: Path) -> subprocess.Popen[bytes]:
    # Loopback only: the test is about the devices of this node, not about its network.
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lehr.infra.pod.probes.collective", str(rank), str(world), str(store)]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _wait(ranks: list[subprocess.Popen[bytes]]) -> tuple[list[int], str]:
    deadline = time.monotonic() + SECONDS
    codes, errors = [], ""
    for rank in ranks:
        try:
            _, stderr = rank.communicate(timeout=max(0.1, deadline - time.monotonic()))
            codes.append(rank.returncode)
            errors = errors or (stderr.decode(errors="replace")[-200:] if rank.returncode else "")
        except subprocess.TimeoutExpired:
            codes.append(-1)
            errors = errors or f"no answer in {SECONDS:g} s"
    return codes, errors


def rank_main(rank: int, world: int, store: str) -> int:
    """Run one rank; returns its exit code."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    dist.init_process_group(
        "nccl" if cuda else "gloo", f"file://{store}", timeout=timedelta(seconds=SECONDS), rank=rank, world_size=world
    )
    base = torch.arange(ELEMENTS, device=device, dtype=torch.float32) % 1021
    for _ in range(3):
        values = base * (rank + 1)  # integers below 2^24, which fp32 sums exactly in any order
        dist.all_reduce(values)
        if not torch.equal(values, base * (world * (world + 1) // 2)):
            return MISMATCH
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(rank_main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
