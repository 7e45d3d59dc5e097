"""The pods of a stage on several nodes without Flyte meet in the store: in rounds, each with a seat, and spares beyond."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from lehr.runtime.errors import InfraError, UserError
from lehr.tasks import meeting
from lehr.tasks.meeting import IDLE_RESTARTS, Meeting, Over, Place, environment
from tests.tasks.in_place import Folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(meeting, "_PAUSE_SECONDS", 0.01)
    pod(monkeypatch, 0)
    return Folder(tmp_path / "store")


def pod(monkeypatch: pytest.MonkeyPatch, index: int, attempt: str = "uid-2", address: str = "127.0.0.1") -> None:
    monkeypatch.setenv(meeting.INDEX, str(index))
    monkeypatch.setenv(meeting.ATTEMPT, attempt)
    monkeypatch.setenv(meeting.ADDRESS, address)


def keys(store: Folder) -> list[str]:
    return sorted(store.keys("rendezvous/stage1/uid-2/"))


def test_pods_meet_where_only_their_attempt_does(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier attempt left, with another address, is neither read nor taken for one of these pods."""
    for index in (0, 1):
        store.put(f"rendezvous/stage1/uid-1/0/{index}", '{"address": "127.9.9.9", "port": 9}', None)
    first, leader = list[Place](), Meeting(store, "stage1", 2)
    waits = threading.Thread(target=lambda: first.append(leader.join()))
    waits.start()
    while "rendezvous/stage1/uid-2/0/0" not in keys(store):
        time.sleep(0.005)
    assert not first, "it waits for the other"
    pod(monkeypatch, 1, address="127.0.0.2")
    second = Meeting(store, "stage1", 2).join()
    waits.join(5)
    assert (first[0].seat, second.seat, first[0].round) == (0, 1, 0)
    assert first[0].address == second.address == "127.0.0.1" and first[0].port == second.port > 0
    leader.leave()
    assert keys(store) == ["rendezvous/stage1/uid-2/round"]
    assert len(store.keys("rendezvous/stage1/uid-1/")) == 2
    with pytest.raises(Over):
        Meeting(store, "stage1", 2).join()


def test_pods_that_do_not_come_are_named_and_a_retry_may_help(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(meeting.PATIENCE, "0.05")
    with pytest.raises(InfraError, match=r"1 of 4 pods came within 0\.05 s; missing: 1, 2, 3"):
        Meeting(store, "stage1", 4).join()


def test_a_pod_that_comes_back_begins_a_round_and_the_others_follow(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they still wait for the round that it was in."""
    monkeypatch.setenv(meeting.PATIENCE, "20")
    first, other = list[Place](), list[Place]()
    waits = threading.Thread(target=lambda: first.append(Meeting(store, "stage1", 3).join()))
    waits.start()
    while "rendezvous/stage1/uid-2/0/0" not in keys(store):
        time.sleep(0.005)
    pod(monkeypatch, 1)
    monkeypatch.setenv(meeting.PATIENCE, "0.05")
    with pytest.raises(InfraError):  # it is lost while it waits
        Meeting(store, "stage1", 3).join()
    monkeypatch.setenv(meeting.PATIENCE, "20")
    back = Meeting(store, "stage1", 3)
    again = threading.Thread(target=lambda: other.append(back.join()))
    again.start()
    while "rendezvous/stage1/uid-2/1/0" not in keys(store):
        time.sleep(0.005)
    pod(monkeypatch, 2)
    last = Meeting(store, "stage1", 3).join()
    waits.join(5), again.join(5)
    assert {place.round for place in (*first, *other, last)} == {1}
    assert len({place.port for place in (*first, *other, last)}) == 1


def alone(store: Folder) -> Meeting:
    """A meeting of one, in its first round."""
    made = Meeting(store, "stage1", 1)
    assert made.join().round == 0
    return made


def test_restarts_without_progress_are_few_and_those_with_it_do_not_count(store: Folder) -> None:
    made = alone(store)
    for number in range(2 * IDLE_RESTARTS):
        made.restart(number)
        assert made.moved() and made.join().round == number + 1
        made.progressed(10 + number)
    made.progressed(3)  # after a rollback: no progress
    for number in range(2 * IDLE_RESTARTS, 3 * IDLE_RESTARTS):
        made.restart(number)
        assert made.join().round == number + 1
    with pytest.raises(InfraError, match="3 restarts of the ranks in a row brought nothing newer than step 15"):
        made.restart(3 * IDLE_RESTARTS)


def at(monkeypatch: pytest.MonkeyPatch, store: Folder, index: int, nodes: int = 2) -> Meeting:
    pod(monkeypatch, index)
    return Meeting(store, "stage1", nodes)


def joining(made: Meeting) -> Future[Place]:
    """Its place, once it has one."""
    found: Future[Place] = Future()

    def join() -> None:
        try:
            found.set_result(made.join())
        except Exception as error:  # noqa: BLE001 - raised by `result`
            found.set_exception(error)

    threading.Thread(target=join, daemon=True).start()
    return found


def test_a_spare_takes_a_seat_that_stays_empty_and_who_comes_back_is_the_spare(
    store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "_SPARE_SECONDS", 0.2)
    pods = [at(monkeypatch, store, index) for index in range(3)]
    places = [joining(made) for made in pods]
    assert [place.result(5).seat for place in places[:2]] == [0, 1]
    time.sleep(0.4)
    assert not places[2].done(), "all seats are taken"
    pods[0].restart(0)  # pod 1 is lost
    first = joining(pods[0]).result(5)
    assert places[2].result(5) == Place(1, 2, "127.0.0.1", first.port, 1)
    back = joining(at(monkeypatch, store, 1))  # another comes for it
    time.sleep(0.4)
    assert not back.done() and not pods[0].moved()
    pods[2].restart(1)  # pod 0 is lost
    second = joining(pods[2]).result(5)
    assert (second.seat, second.round) == (1, 2)
    assert back.result(5) == Place(0, 2, "127.0.0.1", second.port, 2)
    last = joining(at(monkeypatch, store, 0))
    pods[2].leave()
    with pytest.raises(Over):
        last.result(5)


def test_a_spare_that_took_a_seat_and_is_lost_begins_a_round_when_it_comes_back(
    store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_SPARE_SECONDS", "_SPARE_FIRST_SECONDS"):
        monkeypatch.setattr(meeting, name, 0.1)
    first, spare = at(monkeypatch, store, 0), at(monkeypatch, store, 2)
    places = [joining(first), joining(spare)]  # pod 1 is slow
    assert [place.result(5).seat for place in places] == [0, 1]
    slow = joining(at(monkeypatch, store, 1))
    time.sleep(0.3)
    assert not slow.done() and not first.moved(), "it waits in the spare's place"
    again = joining(at(monkeypatch, store, 2))
    while not first.moved():
        time.sleep(0.01)
    assert joining(first).result(5).round == 1
    first.leave()
    ends = [future.exception(5) for future in (slow, again)]
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "Over"], "one of them has the seat"


def test_two_pods_that_see_the_same_loss_begin_one_round(store: Folder) -> None:
    made, other = alone(store), Meeting(store, "stage1", 1)
    made.restart(0), other.restart(0)
    assert made.join().round == 1
    assert not made.moved() and other.moved()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": "x", "port": 1}', '{"address": "127.0.0.1", "port": "y"}'])
def test_what_is_no_address_is_said(store: Folder, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    store.put("rendezvous/stage1/uid-2/0/0", text, None)
    pod(monkeypatch, 1)
    with pytest.raises(InfraError, match="rendezvous/stage1/uid-2/0/0: no pod of Lehr's wrote this"):
        Meeting(store, "stage1", 2).join()


@pytest.mark.parametrize("text", ["", "7", '{"number": 1}', '{"number": "x", "idle": 0, "step": 0, "over": false}'])
def test_what_is_no_round_is_said(store: Folder, text: str) -> None:
    store.put("rendezvous/stage1/uid-2/round", text, None)
    with pytest.raises(InfraError, match="rendezvous/stage1/uid-2/round: no pod of Lehr's wrote this"):
        Meeting(store, "stage1", 2).join()


def test_outside_such_a_pod_nothing_is_tried(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(meeting.INDEX)
    with pytest.raises(UserError, match="JOB_COMPLETION_INDEX: this is no pod of a stage on several nodes"):
        Meeting(store, "stage1", 2)
    assert not store.folder.exists()


def test_ranks_are_numbered_through_all_pods(store: Folder) -> None:
    found = environment(Place(2, 4, "fd00::1", 29400), 8, 3)
    assert found == {
        "TORCHELASTIC_RUN_ID": "uid-2", "MASTER_ADDR": "fd00::1", "MASTER_PORT": "29400", "RANK": "19", "WORLD_SIZE": "32",
        "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "GROUP_RANK": "2", "GROUP_WORLD_SIZE": "4",
    }  # fmt: skip
