"""What a task leaves behind when its machine fails it: an exit code and a termination message for the fleet, no error."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lehr.runtime.errors import InfraError, NodeFault, UserError, node_fault
from lehr.tasks.watchdog import Watchdog

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("how", "code", "why"),
    [
        pytest.param("hang", 173, "no step for", marks=pytest.mark.long),
        ("device", 172, "uncorrectable ECC"),
        pytest.param("mistake", 1, "", marks=pytest.mark.long),
    ],
)
def test_the_exit_code_of_a_pod_says_what_failed(tmp_path: Path, how: str, code: int, why: str) -> None:
    """A mistake of the program ends as ever: nobody's node is blamed for it."""
    log = tmp_path / "termination-log"
    environment = {**os.environ, "LEHR_TERMINATION_LOG": str(log), "LEHR_WATCHDOG_SECONDS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.tasks.trainer", str(tmp_path / "run"), how]
    (tmp_path / "run").mkdir()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == code, done.stdout + done.stderr
    assert log.exists() == bool(why)
    if why:
        words = json.loads(log.read_text())
        assert why in words["why"] and (words["run"], words["stage"], words["rank"]) == ("tiny-olmo2", "stage1", 0)
        # Ten steps are done; the newest checkpoint is that of step eight, or four if it was still being written.
        assert words["step"] == 10 and words["checkpoint_step"] in (4, 8) and time.time() - words["checkpoint_at"] < 300
        assert ("in backward" in done.stderr) == (how == "hang"), "a hang shows where every thread stands"


@pytest.mark.long
def test_each_pod_says_that_training_hangs_when_the_rank_of_one_does(tmp_path: Path) -> None:
    """Two pods of a rank each. Both nodes are named, and none is accused: the way between them may be at fault."""
    (tmp_path / "run").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ["--rdzv-backend", "static", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    pods = []
    for node in (0, 1):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node), *meet, "-m"]
        log = {"LEHR_TERMINATION_LOG": str(tmp_path / f"log-{node}"), "LEHR_WATCHDOG_SECONDS": "3"}
        environment = {**os.environ, **log, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        argv = [
            sys.executable,
            "-m",
            "lehr.infra.pod.supervisor",
            *command,
            "tests.tasks.trainer",
            str(tmp_path / "run"),
            "peer",
        ]
        pods.append(subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=-3, stderr=subprocess.PIPE, text=True))
    said = [pod.communicate(timeout=280)[1] for pod in pods]
    assert [pod.returncode for pod in pods] == [173, 173], said
    words = [json.loads((tmp_path / f"log-{node}").read_text()) for node in (0, 1)]
    assert [(w["rank"], w["nodes"], w["step"]) for w in words] == [(0, 2, 10), (1, 2, 10)]
    assert "no step for" in words[1]["why"] and words[0]["run"] == "tiny-olmo2"


def barked(steps: list[float], limit: float = 0.2, after: float = 0.0, stop: bool = False) -> list[int]:
    """Steps at which the watchdog of a loop with these step times barks; the last step lasts until it would have."""
    found: list[int] = []
    heard = threading.Event()
    dog = Watchdog(lambda step, seconds: (found.append(step), heard.set()), limit, limit / 10)
    dog.start()
    for step, seconds in enumerate(steps):
        dog.beat(True, step)
        time.sleep(seconds)
    if stop:
        dog.beat(False, len(steps))
    heard.wait(after)
    dog.stop()
    return found


def test_the_watchdog_barks_at_a_hanging_step_and_at_nothing_else() -> None:
    quick = [0.005] * 5
    assert barked(quick, after=5.0) == [4], "the fifth step never ends"
    assert barked(quick, after=0.6, stop=True) == [], "an evaluation or a checkpoint takes its time"
    assert barked([0.5, 0.5], after=0.1) == [], "the first steps compile"
    assert barked([*quick, 0.1, 0.6, 0.005], after=0.1) == [], "ten times the longest step so far is no hang"


class NVMLError(Exception):
    """As the driver's library raises it."""


NVMLError.__module__ = "pynvml"
ECC = "CUDA error: uncorrectable ECC error encountered"
NCCL = "NCCL error in: a.cpp:1, unhandled cuda error\nnccl: x\nLast error:\nCuda failure 214 'uncorrectable ECC error'"
COUNT = "Unexpected error from cudaGetDeviceCount(). Did you run some? Error 802: system not yet initialized"


def test_devices_accuse_themselves_and_programs_do_not() -> None:
    for text in (ECC, f"{ECC}\nCompile with TORCH_USE_CUDA_DSA", "CUDA error: unknown error", NCCL, COUNT):
        found = node_fault(RuntimeError(text))
        assert isinstance(found, NodeFault) and isinstance(found, InfraError)
    assert node_fault(NVMLError("GPU is lost")) is not None
    for text in ("CUDA out of memory", "CUDA error: device-side assert triggered", "CUDA error: an illegal memory access", "x"):
        assert node_fault(RuntimeError(text)) is None


@pytest.mark.parametrize("words", ["gpu is lost", ECC, f"\n{ECC}", "no CUDA-capable device is detected", NCCL])
def test_what_a_user_named_accuses_no_device(words: str) -> None:
    """A data file may have any name, and stand in any message; what another rank says is no word of this machine's device."""
    path = f"/data/{words}.jsonl"
    errors = (
        UserError("no such file", where=path),
        FileNotFoundError(2, "No such file or directory", path),
        InfraError(f"{path}: input/output error"),
        RuntimeError(f"unable to open file <{path}> in read-only mode"),
        ValueError(words),
        InfraError(f"rank 3 of 8 on h failed: RuntimeError('{words}')"),
    )
    for error in errors:
        assert node_fault(error) is None, error
