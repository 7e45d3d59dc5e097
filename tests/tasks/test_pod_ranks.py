"""The pods of a stage on several nodes without Flyte: they meet in the store, and end as the rank that is the cause."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch.distributed as dist

from lehr.distributed import process_group
from lehr.runtime.errors import InfraError, NodeFault, UserError
from lehr.runtime.ports import Conflict, Objects
from lehr.tasks import meeting, pod_ranks, pod_stage
from lehr.tasks.meeting import Place, environment, leave, meet
from lehr.tasks.pod_ranks import Ranks, verdict
from lehr.tasks.run_location import RunLocation

HERE = Place(0, 2, "127.0.0.1", 29400)


class Shelf:
    """A store in memory, as far as a meeting needs one."""

    root = "s3://b/p"

    def __init__(self) -> None:
        self.there: dict[str, str] = {}

    def get(self, key: str) -> tuple[str, str] | None:
        return (self.there[key], "1") if key in self.there else None

    def put(self, key: str, value: str, version: str | None) -> str:
        if key in self.there:
            raise Conflict(key)
        self.there[key] = value
        return "1"

    def keys(self, prefix: str) -> list[str]:
        return [key for key in list(self.there) if key.startswith(prefix)]

    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            del self.there[key]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Objects:
    monkeypatch.setattr(meeting, "_PAUSE_SECONDS", 0.01)
    pod(monkeypatch, 0)
    return cast(Objects, Shelf())


def pod(monkeypatch: pytest.MonkeyPatch, index: int, attempt: str = "uid-2", address: str = "127.0.0.1") -> None:
    monkeypatch.setenv(meeting.INDEX, str(index))
    monkeypatch.setenv(meeting.ATTEMPT, attempt)
    monkeypatch.setenv(meeting.ADDRESS, address)


def test_pods_meet_where_only_their_attempt_does(shelf: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier attempt left, with another address, is neither read nor taken for one of these pods."""
    there = cast(Shelf, shelf).there
    there.update({f"rendezvous/stage1/uid-1/{n}": '{"address": "127.9.9.9", "port": 9}' for n in (0, 1)})
    first: list[Place] = []
    waits = threading.Thread(target=lambda: first.append(meet(shelf, "stage1", 2)))
    waits.start()
    while "rendezvous/stage1/uid-2/0" not in there:
        time.sleep(0.005)
    assert not first, "it waits for the other"
    pod(monkeypatch, 1, address="127.0.0.2")
    second = meet(shelf, "stage1", 2)
    waits.join(5)
    assert (first[0].index, second.index) == (0, 1)
    assert first[0].address == second.address == "127.0.0.1" and first[0].port == second.port > 0
    leave(shelf, "stage1")
    assert sorted(there) == ["rendezvous/stage1/uid-1/0", "rendezvous/stage1/uid-1/1"]


def test_pods_that_do_not_come_are_named_and_a_retry_may_help(shelf: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(meeting.PATIENCE, "0.05")
    with pytest.raises(InfraError, match=r"1 of 4 pods came within 0\.05 s; missing: 1, 2, 3"):
        meet(shelf, "stage1", 4)
    with pytest.raises(InfraError, match="another pod of this attempt was number 0 before"):
        meet(shelf, "stage1", 4)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": "x", "port": 1}', '{"address": "127.0.0.1", "port": "y"}'])
def test_what_is_no_address_is_said(shelf: Objects, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    cast(Shelf, shelf).there["rendezvous/stage1/uid-2/0"] = text
    pod(monkeypatch, 1)
    with pytest.raises(InfraError, match="rendezvous/stage1/uid-2/0: this is no address of a pod"):
        meet(shelf, "stage1", 2)


def test_outside_such_a_pod_nothing_is_tried(shelf: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(meeting.INDEX)
    with pytest.raises(UserError, match="JOB_COMPLETION_INDEX: this is no pod of a stage on several nodes"):
        meet(shelf, "stage1", 2)
    assert not cast(Shelf, shelf).there


def test_ranks_are_numbered_through_all_pods(shelf: Objects) -> None:
    found = environment(Place(2, 4, "fd00::1", 29400), 8, 3)
    assert found == {
        "TORCHELASTIC_RUN_ID": "uid-2", "MASTER_ADDR": "fd00::1", "MASTER_PORT": "29400", "RANK": "19", "WORLD_SIZE": "32",
        "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "GROUP_RANK": "2", "GROUP_WORLD_SIZE": "4",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([170, 2], 2), ([2, 170], 2), ([170, 139], 139), ([170, 170], 170), ([172, 0], 172), ([0, 70, 1], 70)],
)
def test_a_pod_ends_as_the_rank_that_is_the_cause(codes: list[int], code: int) -> None:
    assert verdict(codes) == code


@pytest.fixture
def ranks(shelf: Objects, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    monkeypatch.setattr(pod_ranks, "SETTLE_SECONDS", 0.3)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made = Ranks()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    for process in made.processes:
        process.kill()
        process.wait()


ENDS = (
    ("all end well", "exit 0", 0),
    ("a mistake, and what follows from it", "[ $LOCAL_RANK = 1 ] && exit 2; sleep 0.1; exit 170", 2),
    ("one is killed, and the other waits for it", "[ $LOCAL_RANK = 0 ] && kill -9 $$; exec sleep 60", 137),
    ("each has its place", "exit $((RANK * 10 + WORLD_SIZE + LOCAL_WORLD_SIZE + GROUP_WORLD_SIZE))", 8),
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
    shelf: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"root": "s3://b/p", "recipe": "f", "key": "k", "command": "c", "source": "s"}
    monkeypatch.setenv(pod_stage.SUBMISSION, json.dumps({"run": run}))
    monkeypatch.setenv("LEHR_TERMINATION_LOG", str(tmp_path / "word"))
    monkeypatch.setenv(meeting.PATIENCE, "0")
    monkeypatch.setattr(RunLocation, "objects", lambda _: shelf)
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
