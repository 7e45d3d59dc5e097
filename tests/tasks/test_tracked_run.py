"""What the pods of a run share of its tracking: one parent run in MLflow, and what one of them could not send."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lehr.monitoring.mlflow_spool import FOLDER
from lehr.tasks.run_location import RunLocation
from lehr.tasks.tracked_run import TrackedRun, whereabouts


def test_of_many_that_claim_at_once_one_wins_for_all(tmp_path: Path) -> None:
    place = RunLocation(tmp_path)
    start, settled = threading.Barrier(8), list[str]()

    def elect(offer: str) -> None:
        start.wait()
        settled.append(TrackedRun(place, "http://server", "key").elect(offer, lambda run_id: True))

    threads = [threading.Thread(target=elect, args=(f"run-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(settled) == 8 and len(set(settled)) == 1
    assert TrackedRun(place, "http://server", "key").elect("late", lambda run_id: run_id == settled[0]) == settled[0]
    # On another server, for another run, and where the server has lost it, it is another one.
    assert TrackedRun(place, "http://other", "key").elect("a", lambda run_id: True) == "a"
    assert TrackedRun(place, "http://server", "another").elect("b", lambda run_id: True) == "b"
    assert TrackedRun(place, "http://server", "key").elect("c", lambda run_id: False) == "c"
    assert TrackedRun(place, "http://server", "key").elect("d", lambda run_id: True) == "c"


def test_the_password_of_a_server_is_no_part_of_the_key(tmp_path: Path) -> None:
    place = RunLocation(tmp_path)
    assert TrackedRun(place, "http://me:first@server", "key").elect("a", lambda run_id: True) == "a"
    assert TrackedRun(place, "http://me:other@server", "key").elect("b", lambda run_id: True) == "a"
    assert "first" not in "".join(path.name for path in tmp_path.rglob("*"))


class Objects:
    """An object store in memory."""

    root = "s3://bucket/run"

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def upload(self, files: dict[str, Path]) -> None:
        self.held |= {key: path.read_bytes() for key, path in files.items()}

    def download(self, files: dict[str, Path]) -> None:
        for key, path in files.items():
            path.write_bytes(self.held[key])

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.held if key.startswith(prefix)]

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            del self.held[key]


def test_what_a_pod_could_not_send_goes_by_the_store_to_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects()
    monkeypatch.setattr("lehr.tasks.run_location._objects", lambda root: objects)
    places = []
    for name in ("first", "second"):
        monkeypatch.setenv("LEHR_CACHE", str(tmp_path / name))
        places.append(RunLocation("s3://bucket/run"))
    first, second = (TrackedRun(place, "http://server", "key") for place in places)
    waiting = places[0].folder / FOLDER / "1-a.jsonl"
    waiting.parent.mkdir(parents=True)
    waiting.write_text("{}\n", encoding="utf-8")
    first.keep(waiting.parent)
    assert objects.held == {f"{FOLDER}/1-a.jsonl": b"{}\n"}
    second.bring(places[1].folder / FOLDER)
    brought = places[1].folder / FOLDER / "1-a.jsonl"
    assert brought.read_text(encoding="utf-8") == "{}\n" and brought != waiting
    second.sent(brought.parent)
    assert objects.held  # not sent yet
    second.bring(brought.parent)
    brought.unlink()
    second.sent(brought.parent)
    assert not objects.held


def test_a_process_says_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLYTE_INTERNAL_EXECUTION_ID", raising=False)
    assert set(whereabouts()) == {"lehr.host"}
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_ID", "abc")
    monkeypatch.setenv("FLYTE_INTERNAL_TASK_NAME", "lehr.tasks.stages.cpu.soup")
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_PROJECT", "no name\n")
    found = whereabouts()
    assert found.pop("lehr.host") and found == {
        "flyte.execution": "abc", "flyte.task": "lehr.tasks.stages.cpu.soup",
    }  # fmt: skip
