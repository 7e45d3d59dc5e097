"""The pods of a stage on several nodes without Flyte: they meet in the store, and end as the rank that is the cause."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from lehr.distributed import process_group
from lehr.runtime.errors import InfraError, NodeFault
from lehr.tasks import meeting, pod_ranks, pod_stage
from lehr.tasks.meeting import Place
from lehr.tasks.pod_ranks import Ranks, verdict
from lehr.tasks.run_location import RunLocation
from tests.tasks.in_place import Folder

HERE = Place(0, 2, "127.0.0.1", 29400)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(meeting, "_PAUSE_SECONDS", 0.01)
    for name, value in ((meeting.INDEX, "0"), (meeting.ATTEMPT, "uid-2"), (meeting.ADDRESS, "127.0.0.1")):
        monkeypatch.setenv(name, value)
    return Folder(tmp_path / "store")


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([170, 2], 2), ([2, 170], 2), ([170, 139], 139), ([170, 170], 170), ([172, 0], 172), ([0, 70, 1], 70)],
)
def test_a_pod_ends_as_the_rank_that_is_the_cause(codes: list[int], code: int) -> None:
    assert verdict(codes) == code


@pytest.fixture
def ranks(store: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    monkeypatch.setattr(pod_ranks, "SETTLE_SECONDS", 0.3)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made = Ranks()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    for process in made.processes:
        process.kill()
        process.wait()
    made.words.close()


ENDS = (
    ("all end well", "exit 0", 0),
    ("a mistake, and what follows from it", "[ $LOCAL_RANK = 1 ] && exit 2; sleep 0.1; exit 170", 2),
    ("one is killed, and the other waits for it", "[ $LOCAL_RANK = 0 ] && kill -9 $$; exec sleep 60", 137),
    (
        "each has its place",
        "[ $RANK = 1 ] && sleep 0.4; exit $((RANK * 10 + WORLD_SIZE + LOCAL_WORLD_SIZE + GROUP_WORLD_SIZE))",
        8,
    ),
)


@pytest.mark.parametrize(("script", "code"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_ranks_of_a_pod_end_together(ranks: Ranks, script: str, code: int) -> None:
    began = time.monotonic()
    ranks.start(["sh", "-c", script], HERE, 2)
    assert ranks.wait() == code and time.monotonic() - began < 30


def test_ranks_that_are_told_to_end_have_the_time_that_they_need(ranks: Ranks, tmp_path: Path) -> None:
    """One ends at once, the other saves for longer than a rank without order would be given."""
    script = f"trap '[ $LOCAL_RANK = 1 ] && sleep 0.6; exit 170' TERM; : > {tmp_path}/$RANK; while :; do sleep 0.05; done"
    ranks.start(["sh", "-c", script], HERE, 2)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)
    assert ranks.wait() == 170 and ranks.codes == [170, 170]


def test_the_program_of_a_pod_does_not_load_torch() -> None:
    program = "import sys, lehr.tasks.pod_ranks; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


def test_a_mistake_before_the_ranks_start_is_the_pods_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert pod_ranks.main(["stage1", "2", "1"]) == 2
    assert "LEHR_SUBMISSION: this is no pod of `lehr submit`" in capsys.readouterr().err


def test_a_pod_that_waits_in_vain_ends_at_the_systems_cost(
    store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"root": "s3://b/p", "recipe": "f", "key": "k", "command": "c", "source": "s"}
    monkeypatch.setenv(pod_stage.SUBMISSION, json.dumps({"run": run}))
    monkeypatch.setenv("LEHR_TERMINATION_LOG", str(tmp_path / "word"))
    monkeypatch.setenv(meeting.PATIENCE, "0")
    monkeypatch.setattr(RunLocation, "objects", lambda _: store)
    monkeypatch.setattr("lehr.tasks.owned.watch", lambda: None)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit) as caught:
        pod_ranks.main(["stage1", "2", "1"])
    assert caught.value.code == 170 and "1 of 2 pods came within 0 s" in (tmp_path / "word").read_text()


def test_ranks_that_do_not_meet_are_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise dist.DistStoreError("timed out after 1800 s")

    monkeypatch.setattr(process_group, "rendezvous", never)
    with pytest.raises(InfraError, match="did not meet"):
        process_group.LaunchedGroup()


class Gone:
    """The launcher's store of a rank 0 that has gone."""

    def set(self, *_: Any) -> None:
        raise dist.DistNetworkError("broken pipe")


@pytest.mark.parametrize(
    ("own", "kind"),
    [(RuntimeError("gloo: connection closed"), InfraError), (KeyError("x"), InfraError), (NodeFault("ECC"), NodeFault)],
)
def test_a_rank_that_cannot_tell_rank_0_of_its_end_has_lost_it(own: Exception, kind: type[Exception]) -> None:
    """Not a fault of Lehr's, for which the user would pay: rank 0 has ended before, and says why."""
    group = process_group.LaunchedGroup.__new__(process_group.LaunchedGroup)
    group._store, group.rank, group.world = Gone(), 1, 2
    with pytest.raises(InfraError) as caught:
        group._report(own)
    assert type(caught.value) is kind
