"""Stages on several nodes without Flyte: what their Jobs say, who pays for an attempt, and what the driver does about it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lehr.infra.jobs.attempts import OVERDUE_SECONDS, AttemptLedger, Seen, pause_before
from lehr.infra.jobs.drive import Drive, Stage
from lehr.infra.jobs.payer import RETRIES, SYSTEM_RETRIES, Payer
from lehr.infra.jobs.specs import MEETING, StagePod, stage_job
from lehr.infra.jobs.submission import ATTEMPT, attempt_name
from lehr.infra.pod.pod_request import LONGEST, PodRequest
from lehr.runtime.errors import UserError
from lehr.tasks import meeting
from lehr.train.checkpointing import copied_saves
from tests.infra.test_jobs import DISRUPTED, OWNER, SUBMITTED, ended, pod

Object = dict[str, Any]
RANKED = StagePod("stage1", ("x",), PodRequest("8", "64Gi", nodes=4, ranks=8, gpus=8, rdma={"rdma/hca": 1}))
FAILED = [{"type": "FailureTarget", "status": "True", "message": "Job has reached the specified backoff limit"}]
DELETED = "2026-12-01T10:00:00Z"
DELETED_AT = 1796119200.0


def test_the_job_of_an_attempt_replaces_what_was_lost_and_fails_with_anything_else() -> None:
    job = stage_job(SUBMITTED, RANKED, OWNER, attempt=3)
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (4, 4, "Indexed")
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (0, 0) and "backoffLimit" not in spec
    mistake, disrupted, replaced = spec["podFailurePolicy"]["rules"]
    assert mistake["action"] == "FailJob" and mistake["onExitCodes"]["values"] == [2]
    assert (
        disrupted["action"] == replaced["action"] == "Ignore" and disrupted["onPodConditions"][0]["type"] == "DisruptionTarget"
    )
    assert set(replaced["onExitCodes"]["values"]) == {137, 143, 171, 172, 247}, "neither a hang nor pods that gave up"
    for meta in (job["metadata"], spec["template"]["metadata"]):
        assert meta["labels"][ATTEMPT] == "3" and meta["labels"]["lehr.dev/stage"] == "stage1"
    assert job["metadata"]["name"] == "tiny-12345678-stage1-abcde-3"
    pods = spec["template"]["spec"]
    own = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in pods["containers"][0]["env"] if "valueFrom" in e}
    assert own.items() >= MEETING.items()
    said = {e["name"]: e["value"] for e in pods["containers"][0]["env"] if "value" in e}
    assert said[copied_saves.FOLDER] == "/dev/shm/lehr-copies", "where the ranks look for copies"
    assert said["LEHR_PREFLIGHT_IN_PLACE"] == "1" and said["LEHR_EXPECTED_GPUS"] == "8"
    assert [c["name"] for c in pods["initContainers"]] == ["preflight", "preflight-gate"]
    assert not any("valueFrom" in e for c in pods["initContainers"] for e in c["env"])
    apart = pods["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert apart["labelSelector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pods["containers"][0]["resources"]["limits"]["rdma/hca"] == "1"


def test_a_stage_on_one_node_is_as_it_was() -> None:
    job = stage_job(SUBMITTED, StagePod("stage1", ("x",), PodRequest(gpus=8)), OWNER, attempt=1)
    assert job["spec"]["backoffLimit"] == RETRIES and not {"completions", "completionMode"} & set(job["spec"])
    assert ATTEMPT not in job["metadata"]["labels"] and job["metadata"]["name"] == "tiny-12345678-stage1-abcde"


def test_spares_are_pods_of_the_same_job() -> None:
    stage = replace(RANKED, request=replace(RANKED.request, nodes=9, spares=2))
    job = stage_job(SUBMITTED, stage, OWNER)
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (11, 11)
    assert job["spec"]["successPolicy"] == {"rules": [{"succeededCount": 9}]}, "nobody waits for one that finds no node"
    assert "successPolicy" not in stage_job(SUBMITTED, RANKED, OWNER)["spec"]
    assert len(f"{attempt_name('r' * 60, 's', 'abcdef', 1, 11)}-10") == LONGEST


def test_without_a_preflight_there_is_none_in_place_either() -> None:
    stage = replace(RANKED, request=replace(RANKED.request, checked=False))
    env = stage_job(SUBMITTED, stage, OWNER)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert not {"LEHR_PREFLIGHT_IN_PLACE", "LEHR_EXPECTED_GPUS"} & {e["name"] for e in env}


def test_names_leave_room_for_the_index_of_every_pod() -> None:
    for nodes in (2, 11, 1001):
        name = attempt_name("r" * 24 + "-01234567", "anneal-" * 9, "abcdef01-2345", 17, nodes)
        assert len(f"{name}-{nodes - 1}") == LONGEST and name.endswith("-abcde-17")


def test_pods_are_told_what_they_read() -> None:
    """lehr.tasks may not import lehr.infra.jobs, so both name these."""
    assert set(MEETING) == {meeting.ADDRESS, meeting.ATTEMPT}


def attempt(number: int, *pods: Object, conditions: Any = (), earlier: tuple[Seen, ...] = ()) -> Seen:
    meta = {"uid": f"job-{number}", "name": f"j-{number}", "labels": {ATTEMPT: str(number)}}
    return Seen(
        {"metadata": meta, "status": {"conditions": list(conditions)}}, {p["metadata"]["uid"]: p for p in pods}, earlier
    )


def gone(name: str, phase: str = "Running", at: str = DELETED, **status: Any) -> Object:
    made = pod(name, phase, **status)
    made["metadata"]["deletionTimestamp"] = at
    return made


LOST = ended("primary", 170, message=json.dumps({"why": "rank 1 of 2 died"}))
# Ends of an attempt's pods -> who pays, and which pod is named.
TABLE = (
    ("a peer was killed", [pod("a", **LOST), pod("b", **ended("primary", 137))], Payer.SYSTEM, "b"),
    ("a peer crashed", [pod("a", **LOST), pod("b", **ended("primary", 139))], Payer.USER, "b"),
    ("a peer was out of memory", [pod("a", **LOST), pod("b", **ended("primary", 137, "OOMKilled"))], Payer.MEMORY, "b"),
    ("out of memory, and a consequence", [pod("a", **ended("primary", 70)), pod("b", **ended("primary", 137, "OOMKilled"))],
     Payer.MEMORY, "b"),
    ("a peer's device", [pod("a", **ended("primary", 70)), pod("b", **ended("primary", 172))], Payer.SYSTEM, "b"),
    ("a peer's node", [pod("a", **ended("primary", 70)), pod("b", **ended("primary", 1), **DISRUPTED)], Payer.SYSTEM, "b"),
    ("a peer's node, drained", [pod("a", **ended("primary", 70)), gone("b", "Failed", **ended("primary", 143), **DISRUPTED)],
     Payer.SYSTEM, "b"),
    ("a hang", [pod("a", **ended("primary", 173)), pod("b", **ended("primary", 173))], Payer.SYSTEM, "a"),
    ("a hang after a crash", [pod("a", **ended("primary", 173)), pod("b", **ended("primary", 139))], Payer.USER, "b"),
    ("a mistake", [pod("a", **LOST), pod("b", **ended("primary", 2, message="no."))], Payer.MISTAKE, "b"),
    ("the gate", [pod("a", **ended("preflight-gate", 171, kind="initContainerStatuses")), pod("b", **LOST)], Payer.SYSTEM, "a"),
    ("told to end after it", [pod("a", **ended("primary", 139)), gone("b", "Failed", **ended("primary", 1))], Payer.USER, "a"),
    ("all are gone", [], Payer.SYSTEM, "j-1"),
)  # fmt: skip


@pytest.mark.parametrize(("pods", "payer", "named"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_who_pays_for_an_attempt(pods: list[Object], payer: Payer, named: str) -> None:
    ledger = AttemptLedger()
    (end,) = ledger.see_attempts([attempt(1, *pods, conditions=FAILED)])
    assert (end.payer, end.pod) == (payer, named)
    assert not ledger.see_attempts([attempt(1, *pods, conditions=FAILED)]), "counted once"


def test_of_equals_the_first_to_end_is_named() -> None:
    ends = [ended("primary", 70), ended("primary", 70)]
    for end, at in zip(ends, ("2026-12-01T10:00:07Z", "2026-12-01T10:00:05Z"), strict=True):
        end["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = at
    (found,) = AttemptLedger().see_attempts([attempt(1, pod("a", **ends[0]), pod("b", **ends[1]), conditions=FAILED)])
    assert found.pod == "b"


def test_who_was_taken_away_before_its_job_failed_is_the_cause() -> None:
    """Of a pod that somebody deletes, no object is left when its Job has failed."""
    ledger = AttemptLedger()
    assert not ledger.see_attempts([attempt(1, pod("a", "Running"), gone("b"))])
    (end,) = ledger.see_attempts([attempt(1, pod("a", **ended("primary", 70)), conditions=FAILED)])
    assert (end.payer, end.pod, end.why) == (Payer.SYSTEM, "b", "deleted")


def test_an_attempt_is_judged_when_its_pods_have_ended_and_one_whose_node_is_lost_is_not_waited_for() -> None:
    ledger, crashed = AttemptLedger(), pod("a", **ended("primary", 139))
    assert not ledger.see_attempts([attempt(1, crashed, pod("b", "Running"), conditions=FAILED)], DELETED_AT)
    leaving = [attempt(1, crashed, gone("b"), conditions=FAILED)]
    assert not ledger.see_attempts(leaving, DELETED_AT + OVERDUE_SECONDS - 1)
    (end,) = ledger.see_attempts(leaving, DELETED_AT + OVERDUE_SECONDS + 1)
    assert end.payer is Payer.USER


def test_a_mistake_is_not_waited_for() -> None:
    (end,) = AttemptLedger().see_attempts([attempt(1, pod("a", "Running"), pod("b", **ended("primary", 2)))])
    assert end.payer is Payer.MISTAKE


def test_the_budgets_are_those_of_one_node_and_a_new_driver_counts_from_what_is_left() -> None:
    for code, most, word in ((139, RETRIES, "failed 4 times"), (172, SYSTEM_RETRIES, "the cluster failed it 17 times")):
        all_of_them = [attempt(n, pod(f"p{n}", **ended("primary", code)), conditions=FAILED) for n in range(1, most + 2)]
        ledger = AttemptLedger()
        ledger.see_attempts(all_of_them[:-1])
        assert not ledger.overdrawn()
        ledger.see_attempts(all_of_them)
        assert word in ledger.overdrawn()


def test_the_second_attempt_is_made_at_once_and_each_later_one_after_a_longer_pause() -> None:
    assert [pause_before(n) for n in (1, 2, 3, 4, 5, 20)] == [0, 0, 10, 20, 40, 360]


class Cluster:
    """What the driver asks of the cluster; a test says what is there."""

    def __init__(self) -> None:
        self.there: dict[str, Seen] = {}
        self.made: list[int] = []

    def start(self, job: Object) -> None:
        self.made.append(job["attempt"])
        before = self.there.get("a")
        earlier = (*before.earlier, before) if before is not None else ()
        self.there["a"] = attempt(job["attempt"], pod(f"p{job['attempt']}", "Running"), earlier=earlier)

    def look(self) -> dict[str, Seen]:
        return dict(self.there)

    def stop(self, seen: Any) -> None:
        self.stopped = list(seen)

    def end(self, code: int) -> None:
        last = self.there["a"]
        failed = pod(f"p{last.attempt}", **ended("primary", code, message="no."))
        self.there["a"] = attempt(last.attempt, failed, conditions=FAILED, earlier=last.earlier)


def driving() -> tuple[Cluster, Drive, list[str]]:
    cluster, said = Cluster(), list[str]()
    stage = Stage("a", frozenset(), lambda number: {"attempt": number}, nodes=2)
    return cluster, Drive([stage], set(), cluster, said.append, said.append, 8), said  # type: ignore[arg-type]


def test_the_driver_makes_the_next_attempt_and_says_who_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("lehr.infra.jobs.drive.time.monotonic", lambda: now[0])
    cluster, drive, said = driving()
    drive.once()
    cluster.end(170)
    drive.once()
    assert cluster.made == [1, 2] and "a: pod p1 ended, which costs the system a retry: no." in said
    drive.once()
    cluster.end(139)
    drive.once(), drive.once()
    assert cluster.made == [1, 2], "the third waits"
    now[0] += 10
    drive.once(), drive.once()
    assert cluster.made == [1, 2, 3] and "a: attempt 3 started" in said
    cluster.there["a"] = attempt(3, conditions=[{"type": "Complete", "status": "True"}], earlier=cluster.there["a"].earlier)
    drive.once()
    assert drive.done == {"a"} and "a: finished after 1 retries of the user's and 1 of the system's" in said


def test_the_driver_makes_no_attempt_for_a_pod_that_is_replaced() -> None:
    cluster, drive, said = driving()
    drive.once()
    cluster.there["a"] = attempt(1, pod("p1", **ended("primary", 137)))
    drive.once()
    assert cluster.made == [1] and said[-1] == "a: pod p1 ended and is replaced: exit code 137"
    ended_with_it = pod("p2", **ended("primary", 143))  # Kubernetes ends whom nobody needs once enough have ended well
    enough = [{"type": "SuccessCriteriaMet", "status": "True"}]
    cluster.there["a"] = attempt(1, pod("p1", **ended("primary", 137)), ended_with_it, conditions=enough)
    drive.once()
    assert cluster.made == [1] and len([line for line in said if "ended" in line]) == 1, said
    cluster.there["a"] = attempt(1, conditions=[{"type": "Complete", "status": "True"}])
    drive.once()
    assert said[-1] == "a: finished after 0 retries of the user's and 0 of the system's, 1 pods replaced"


def test_a_new_driver_goes_on_from_the_newest_attempt() -> None:
    cluster, drive, _ = driving()
    drive.once(), cluster.end(170), drive.once()
    _, again, _ = driving()
    again.jobs = cluster  # type: ignore[assignment]
    again.once()
    assert cluster.made == [1, 2] and again.ledgers["a"].spent(Payer.SYSTEM) == 1


def test_a_mistake_ends_the_run_and_its_job_stays_for_its_log() -> None:
    cluster, drive, _ = driving()
    drive.once(), cluster.end(2)
    with pytest.raises(UserError, match=r"a: pod p1: no\."):
        drive.run(pause=0)
    assert cluster.made == [1] and cluster.stopped == []


def test_an_attempt_that_somebody_deleted_is_made_again_at_the_systems_cost() -> None:
    cluster, drive, _ = driving()
    drive.once(), drive.once()
    del cluster.there["a"]
    drive.once()
    assert cluster.made == [1, 1] and drive.ledgers["a"].spent(Payer.SYSTEM) == 1
