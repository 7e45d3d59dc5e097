"""What the driver of a run without Flyte does about what it sees."""

from __future__ import annotations

from typing import Any

import pytest

from lehr.infra.jobs import drive as drive_module
from lehr.infra.jobs.attempts import Seen
from lehr.infra.jobs.drive import Drive, Stage
from lehr.infra.jobs.payer import Payer
from lehr.runtime.errors import InfraError, UserError
from tests.infra.test_jobs import Object, ended, pod


class Jobs:
    """What the driver asks of the cluster; a test says what is there."""

    def __init__(self) -> None:
        self.there: dict[str, Seen] = {}
        self.refusal = ""
        self.stopped: list[Seen] = []

    def start(self, job: Object) -> None:
        self.there[job["name"]] = Seen({"status": {}, "metadata": {}}, {})

    def look(self) -> dict[str, Seen]:
        return dict(self.there)

    def refused(self, job: Object) -> str:
        return self.refusal

    def stop(self, seen: Any) -> None:
        self.stopped += seen

    def end(self, name: str, condition: str = "Complete", **pods: Object) -> None:
        job = {"status": {"conditions": [{"type": condition, "status": "True", "message": "by its policy"}]}, "metadata": {}}
        self.there[name] = Seen(job, pods)


def driving(jobs: Jobs, *edges: tuple[str, tuple[str, ...]], parallel: int = 8) -> tuple[Drive, list[str]]:
    said: list[str] = []
    stages = [Stage(name, frozenset(needs), lambda _, name=name: {"name": name}) for name, needs in edges]
    return Drive(stages, set(), jobs, said.append, said.append, parallel), said  # type: ignore[arg-type]


def test_what_is_independent_runs_at_once_and_never_more_than_may() -> None:
    jobs = Jobs()
    drive, _ = driving(jobs, ("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("a",)), ("e", ("b", "c", "d")), parallel=2)
    drive.once()
    assert set(jobs.there) == {"a"}
    jobs.end("a")
    drive.once()
    assert set(jobs.there) == {"a", "b", "c"}
    jobs.end("b")
    drive.once()
    assert set(jobs.there) == {"a", "b", "c", "d"}
    jobs.end("c"), jobs.end("d")
    drive.once()
    assert "e" in jobs.there


def test_a_mistake_stops_the_others_and_says_which_pod() -> None:
    jobs = Jobs()
    drive, said = driving(jobs, ("a", ()), ("b", ()))
    drive.once()
    jobs.end("a", "Failed", p=pod("p", **ended("primary", 2, message="no such file.")))
    with pytest.raises(UserError, match=r"a: pod p: no such file\.") as caught:
        drive.run(pause=0)
    assert caught.value.exit_code == 2 and jobs.stopped == [jobs.there["b"]]
    assert any("ends the run" in line for line in said)


def test_a_job_that_somebody_deleted_is_started_again_at_the_systems_cost() -> None:
    jobs = Jobs()
    drive, _ = driving(jobs, ("a", ()))
    drive.once()
    jobs.there["a"] = Seen({"status": {}, "metadata": {}}, {"p": pod("p", "Running")})
    drive.once()
    del jobs.there["a"]
    drive.once()
    assert "a" in jobs.there and drive.ledgers["a"].spent(Payer.SYSTEM) == 1 and not drive.ledgers["a"].spent(Payer.USER)


def test_an_api_server_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()
    drive, said = driving(jobs, ("a", ()))
    answers = iter([InfraError("refused"), OSError("reset")])

    def look() -> dict[str, Seen]:
        for error in answers:
            raise error
        jobs.end("a")
        return jobs.there

    monkeypatch.setattr(jobs, "look", look)
    drive.run(pause=0)
    assert drive.done == {"a"} and len([line for line in said if "does not answer" in line]) == 2


def test_what_refuses_a_pod_is_said_once_and_again_after_a_pod_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive_module, "ASK_SECONDS", 0.0)
    jobs = Jobs()
    drive, said = driving(jobs, ("a", ()))
    drive.once(), drive.once()
    assert said == ["a: started"], "nothing is said where Kubernetes says nothing"
    jobs.refusal = "exceeded quota: q"
    drive.once(), drive.once()
    assert said[1:] == ["a: waits for a pod, which costs nobody a retry: exceeded quota: q"]
    for phase in ("Running", "Failed"):
        jobs.there["a"] = Seen(jobs.there["a"].job, {"p": pod("p", phase, **ended("primary", 137))})
        drive.once()
    drive.once()
    assert len([line for line in said if "exceeded quota" in line]) == 2
    assert drive.ledgers["a"].spent(Payer.USER, Payer.MEMORY) == 0


def test_a_store_that_is_away_is_waited_for() -> None:
    """What a stage has made is looked for there."""
    jobs = Jobs()
    drive, said = driving(jobs, ("a", ()))
    answers = iter([InfraError("s3://b/p: the store cannot be reached"), OSError("reset")])

    def finished(name: str) -> None:
        for error in answers:
            raise error

    drive.finished = finished
    jobs.end("a")
    drive.run(pause=0)
    assert drive.done == {"a"} and len([line for line in said if "or the store does not answer" in line]) == 2
