"""Ranks start again in the pods that are left: pods as processes, one of them lost, its ranks killed, or told to end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lehr.infra.pod.pod_template import BLAMED_NODES_MAX, CHECKED_AGAIN
from lehr.tasks.meeting import IDLE_RESTARTS
from tests.tasks import in_place
from tests.tasks.in_place import Folder

pytestmark = pytest.mark.long  # whole runs: with all others make test would not stay within its minutes

ROOT = Path(__file__).resolve().parents[2]
# Each rank counts its starts in a file of its own; $n is the number of those before this one.
COUNTED = "n=$(cat $AT/rank-$RANK 2>/dev/null || echo 0); echo $((n + 1)) > $AT/rank-$RANK; "
NO_GPU = """
class NVMLError(Exception): ...
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 0
"""
SAYS = "exec $PYTHON -c 'import sys; from lehr.tasks.termination import terminate; terminate(int(sys.argv[1]), \"why\", {})' "


_FORKS = multiprocessing.get_context("forkserver")  # each pod would import the same modules for a second
_FORKS.set_forkserver_preload(["tests.tasks.in_place"])


def _pod(environment: dict[str, str], arguments: tuple[Path, int, int, list[str]]) -> None:
    os.setsid()
    os.environ |= environment
    os._exit(in_place.main(*arguments))


class Pod:
    """A pod as a process group, with the supervisor before it or without."""

    def __init__(self, environment: dict[str, str], store: Path, ranks: int, script: str, supervised: bool) -> None:
        command = ["sh", "-c", script]
        if supervised:
            pod = [sys.executable, "-m", "tests.tasks.in_place", str(store), "2", str(ranks), *command]
            whole = [sys.executable, "-m", "lehr.infra.pod.supervisor", *pod]
            self._popen: subprocess.Popen[bytes] | None = subprocess.Popen(
                whole, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True
            )
            self.pid = self._popen.pid
        else:
            self._popen, self._process = None, _FORKS.Process(target=_pod, args=(environment, (store, 2, ranks, command)))
            self._process.start()
            self.pid = int(self._process.pid or 0)

    def wait(self) -> int:
        if self._popen is not None:
            return self._popen.wait(120)
        self._process.join(120)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """All of its processes, as the kernel does when a container's first one dies."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Pods:
    """The pods of a stage on two nodes. `at` is where ranks write; `store` is the run's."""

    def __init__(self, at: Path) -> None:
        self.at, self.store, self.all = at, at / "store", list[Pod]()

    def start(self, index: int, script: str, *, ranks: int = 1, supervised: bool = False, **more: str) -> Pod:
        """The pod of that index, each of whose ranks runs `script`."""
        own = {"JOB_COMPLETION_INDEX": str(index), "LEHR_ATTEMPT": "uid-1", "LEHR_POD_ADDRESS": "127.0.0.1"}
        own |= {"LEHR_MEETING_SECONDS": "60", "AT": str(self.at), "PYTHON": sys.executable}
        own |= {"PYTHONPATH": f"{self.at}:{ROOT}", "LEHR_TERMINATION_LOG": str(self.at / f"word-{index}")}
        made = Pod({**own, **more}, self.store, ranks, script, supervised)
        self.all.append(made)
        return made

    def both(self, script: str, *, ranks: int = 1, supervised: bool = False, **more: str) -> tuple[Pod, Pod]:
        first, second = (self.start(index, script, ranks=ranks, supervised=supervised, **more) for index in (0, 1))
        return first, second

    def starts(self, rank: int) -> int:
        return int((self.at / f"rank-{rank}").read_text())

    def until(self, name: str) -> None:
        end = time.monotonic() + 60
        while not (self.at / name).exists():
            assert time.monotonic() < end, f"no {name}"
            time.sleep(0.02)


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    made = Pods(tmp_path)
    yield made
    for pod in made.all:
        pod.kill()
        pod.wait()


def codes(*started: Pod) -> list[int]:
    return [pod.wait() for pod in started]


def test_a_rank_that_is_killed_starts_again_with_all_others_in_the_same_pods(pods: Pods) -> None:
    """Rank 1's peer ends as one that lost it; rank 0 of the second round has another port, and no pod has ended."""
    lost = "[ $n = 0 ] && { [ $RANK = 1 ] && kill -9 $$; sleep 0.2; exit 170; }; echo $MASTER_PORT > $AT/port-$RANK; exit 0"
    assert codes(*pods.both(COUNTED + lost)) == [0, 0]
    assert (pods.starts(0), pods.starts(1)) == (2, 2)
    assert (pods.at / "port-0").read_text() == (pods.at / "port-1").read_text()
    (key,) = Folder(pods.store).keys("rendezvous/stage1/uid-1/")
    assert json.loads((pods.store / key).read_text()) == {"number": 1, "idle": 0, "step": -1, "over": True}


def test_a_pod_that_is_lost_is_replaced_while_the_other_hangs(pods: Pods) -> None:
    """What a rank waits for never comes: the new pod's round is what ends it."""
    script = COUNTED + "[ $n = 0 ] || exit 0; touch $AT/up-$RANK; exec sleep 60"
    left, lost = pods.both(script)
    pods.until("up-1"), pods.until("up-0")
    lost.kill()
    assert codes(left, pods.start(1, script)) == [0, 0] and pods.starts(0) == 2


def test_a_spare_takes_the_place_of_a_pod_that_is_lost(pods: Pods) -> None:
    """It waits, with no rank started, until then; the pod that Kubernetes makes for the lost one has nothing left to do."""
    waits = "[ $RANK = 0 ] || exec sleep 60; while [ ! -e $AT/lost ]; do sleep 0.05; done; exit 170"
    script = f"{COUNTED} [ $n = 0 ] || exit 0; touch $AT/up-$RANK; {waits}"
    spare = pods.start(2, script)
    left, lost = pods.both(script)
    pods.until("up-0"), pods.until("up-1")
    lost.kill()
    (pods.at / "lost").touch()
    assert codes(left, spare) == [0, 0] and (pods.starts(0), pods.starts(1)) == (2, 2)
    assert codes(pods.start(1, script)) == [0] and pods.starts(1) == 2


@pytest.mark.parametrize(("code", "ends"), [(2, 2), (70, 70), (139, 139)])
def test_a_mistake_or_a_crash_is_not_tried_again_in_place(pods: Pods, code: int, ends: int) -> None:
    """The other pod goes to the meeting, until Kubernetes ends it."""
    left, failed = pods.both(COUNTED + f"[ $RANK = 1 ] && exit {code}; sleep 0.1; exit 170")
    assert codes(failed) == [ends] and pods.starts(1) == 1
    left.terminate()
    assert codes(left) in ([170], [143]), "in the meeting, or before its rank has ended"


def test_a_pod_in_whose_place_none_comes_ends_at_the_systems_cost(pods: Pods) -> None:
    left, lost = pods.both(
        COUNTED + "touch $AT/up-$RANK; sleep 0.2; [ $RANK = 0 ] && exit 170; sleep 60", LEHR_MEETING_AGAIN_SECONDS="0.2"
    )
    pods.until("up-1")
    lost.kill()
    assert codes(left) == [170] and "1 of 2 pods came within 0.2 s; missing: 1" in (pods.at / "word-0").read_text()


def test_a_pod_gives_up_when_restarts_bring_nothing(pods: Pods) -> None:
    left, failed = pods.both(COUNTED + "[ $RANK = 1 ] && kill -9 $$; sleep 0.1; exit 170")
    assert codes(left, failed) == [170, 170] and pods.starts(1) == 1 + IDLE_RESTARTS
    assert "3 restarts of the ranks in a row brought nothing newer" in (pods.at / "word-1").read_text()


def test_restarts_go_on_as_long_as_there_is_progress(pods: Pods) -> None:
    keeps = "echo $((n + 10)) > $LEHR_PROGRESS_FILE; touch $AT/kept-$n; "
    waits = "while [ ! -e $AT/kept-$n ]; do sleep 0.02; done; sleep 0.3; "
    dies = f"[ $n -lt {IDLE_RESTARTS + 2} ] || exit 0; [ $RANK = 1 ] && kill -9 $$; exit 170"
    script = f"[ $RANK = 0 ] && {{ {keeps} }}; {waits} {dies}"
    assert codes(*pods.both(COUNTED + script)) == [0, 0] and pods.starts(0) == IDLE_RESTARTS + 3


def test_ranks_that_wait_to_be_ended_are_and_the_supervisor_hears_nothing(pods: Pods) -> None:
    """Of two ranks in a pod each says that it lost the store; the pods go on."""
    script = COUNTED + f"[ $n = 0 ] || exit 0; {SAYS} 170"
    assert codes(*pods.both(script, ranks=2, supervised=True)) == [0, 0]
    assert [pods.starts(rank) for rank in range(4)] == [2, 2, 2, 2] and not (pods.at / "word-0").exists()


def test_a_hang_of_more_nodes_than_the_controller_would_test_is_not(pods: Pods) -> None:
    says = SAYS.replace('"why", {}', f'"why", {{"nodes": {BLAMED_NODES_MAX + 1}}}')
    script = COUNTED + f"[ $n = 0 ] || exit 0; {says} 173"
    assert codes(*pods.both(script, supervised=True)) == [0, 0] and pods.starts(0) == 2


@pytest.mark.parametrize("code", [172, 173])
def test_a_failed_device_and_a_hang_are_this_pods_to_answer_for(pods: Pods, code: int) -> None:
    """With the rank's own message, as the controller reads it."""
    script = COUNTED + f"[ $RANK = 1 ] && {SAYS} {code}; sleep 60"
    left, failed = pods.both(script, supervised=True)
    assert codes(failed) == [code] and json.loads((pods.at / "word-1").read_text())["why"] == "why"
    left.terminate()
    assert codes(left) == [247]


def test_a_node_that_fails_the_preflight_does_not_take_the_ranks_again(pods: Pods) -> None:
    """Its driver sees no GPU any more; the pod ends as one whose device failed."""
    (pods.at / "pynvml.py").write_text(NO_GPU)
    off = {f"LEHR_PROBE_{name}": "off" for name in ("MATMUL", "MEMORY", "BANDWIDTH", "COLLECTIVE", "DISK", "CLOCK")}
    script = COUNTED + "[ $RANK = 1 ] && kill -9 $$; sleep 0.1; exit 170"
    checked = {**off, CHECKED_AGAIN: "1", "LEHR_EXPECTED_GPUS": "1"}
    left = pods.start(0, script)
    failed = pods.start(1, script, supervised=True, **checked)
    assert codes(failed) == [172] and pods.starts(1) == 1
    assert "the preflight before a restart in place: GPUMissing (0 of 1 GPUs)" in (pods.at / "word-1").read_text()
    left.terminate()
    assert codes(left) == [170]


def test_a_node_that_passes_it_does(pods: Pods) -> None:
    off = {f"LEHR_PROBE_{name}": "off" for name in ("MATMUL", "MEMORY", "BANDWIDTH", "COLLECTIVE", "DISK")}
    meets = "touch $AT/again-$RANK; while [ ! -e $AT/again-1 ]; do sleep 0.05; done; exit 0"
    script = f"{COUNTED} [ $n = 0 ] || {{ {meets}; }}; [ $RANK = 1 ] && kill -9 $$; sleep 0.1; exit 170"
    assert codes(*pods.both(script, **off, **{CHECKED_AGAIN: "1"})) == [0, 0] and pods.starts(1) == 2


def test_a_pod_that_is_told_to_end_saves_and_goes(pods: Pods) -> None:
    script = "trap 'touch $AT/saved-$RANK; exit 170' TERM; touch $AT/up-$RANK; while :; do sleep 0.05; done"
    told = pods.start(0, script, supervised=True)
    other = pods.start(1, script)
    pods.until("up-0"), pods.until("up-1")
    told.terminate()
    assert codes(told) == [247] and (pods.at / "saved-0").exists()
    other.terminate()
    assert codes(other) == [170]


def test_a_pod_whose_rank_fails_when_the_stage_is_made_ends_well(pods: Pods) -> None:
    script = COUNTED + "[ $RANK = 0 ] && exit 0; sleep 1; kill -9 $$"
    assert codes(*pods.both(script)) == [0, 0] and pods.starts(1) == 1
