"""Runs without Flyte: who pays for a pod's end, what a Job says, and what the driver does about what it sees."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lehr.infra.jobs.payer import RETRIES, SYSTEM_RETRIES, Ledger, Payer, end_of
from lehr.infra.jobs.specs import INPUTS, StagePod, driver_job, stage_job
from lehr.infra.jobs.submission import VARIABLE, Submission, job_name, parse
from lehr.infra.pod.pod_request import LONGEST, PodRequest, run_name
from lehr.pipeline.node import REPORT
from lehr.runtime.errors import UserError
from lehr.tasks import pod_stage
from lehr.tasks.refs import RunRef

Object = dict[str, Any]
RUN = {"root": "s3://b/p", "recipe": "f" * 64, "key": "k" * 16, "command": "lehr submit", "source": "tiny/olmo2"}
SUBMITTED = Submission("tiny-12345678", "training", "lehr:1", RUN, "Tiny_OLMo.2", secret="store", account="trainer")
OWNER = {"metadata": {"name": "tiny-12345678-driver", "uid": "abcdef01-2345"}}
TRAINS = StagePod("stage1", ("python", "-m", "lehr.tasks.pod_stage", "stage1"), PodRequest("8", "64Gi", gpus=8))


def pod(name: str, phase: str = "Failed", **more: Any) -> Object:
    return {"metadata": {"name": name, "uid": name}, "status": {"phase": phase, **more}}


def ended(container: str, code: int, reason: str = "Error", message: str = "", kind: str = "containerStatuses") -> Object:
    return {kind: [{"name": container, "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}]}


DISRUPTED = {
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "lost"}]
}
WORDS = json.dumps({"run": "r", "why": "a device failed"})
# End of a pod -> who pays, and what is said of it. docs/fleet.md has the same table in words.
TABLE = (
    (
        "a mistake",
        ended("primary", 2, message="recipe x: no such file. mend it."),
        Payer.MISTAKE,
        "recipe x: no such file. mend it.",
    ),
    ("told to end, saved", ended("primary", 170, message=WORDS), Payer.SYSTEM, "a device failed"),
    ("the gate, in vain", ended("preflight-gate", 171, kind="initContainerStatuses"), Payer.SYSTEM, "exit code 171"),
    ("the gate, removed", ended("preflight-gate", 143, kind="initContainerStatuses"), Payer.SYSTEM, "exit code 143"),
    ("a device", ended("primary", 172, message=WORDS), Payer.SYSTEM, "a device failed"),
    ("a hang", ended("primary", 173), Payer.SYSTEM, "exit code 173"),
    ("killed", ended("primary", 137), Payer.SYSTEM, "exit code 137"),
    ("out of memory", ended("primary", 137, "OOMKilled"), Payer.MEMORY, "out of memory"),
    ("preempted", {**ended("primary", 1), **DISRUPTED}, Payer.SYSTEM, "lost"),
    ("preempted with a mistake", {**ended("primary", 2, message="no"), **DISRUPTED}, Payer.MISTAKE, "no"),
    ("evicted", {"reason": "Evicted", "message": "disk pressure"}, Payer.SYSTEM, "Evicted disk pressure"),
    ("evicted, as a condition", DISRUPTED, Payer.SYSTEM, "lost"),
    ("a fault of Lehr's", ended("primary", 70, message="KeyError: 'x'"), Payer.USER, "KeyError: 'x'"),
    ("a crash", ended("primary", 139), Payer.USER, "exit code 139"),
    ("a preflight with a mistake", ended("preflight", 2, kind="initContainerStatuses"), Payer.USER, "exit code 2"),
)


@pytest.mark.parametrize(("status", "payer", "why"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_who_pays(status: Object, payer: Payer, why: str) -> None:
    found = end_of(pod("p", **status))
    assert found is not None and found.payer is payer and found.why.startswith(why)


def test_who_runs_or_ended_well_costs_nothing() -> None:
    assert end_of(pod("p", "Running")) is None and end_of(pod("p", "Succeeded")) is None


@pytest.mark.parametrize("code", [2, 137, 143, 170, 171, 172, 173, 247, 1, 70, 139])
def test_kubernetes_counts_as_the_driver_does(code: int) -> None:
    """The Job's policy and the table agree on every exit code; out of memory alone the code does not tell."""
    rules = stage_job(SUBMITTED, TRAINS, OWNER)["spec"]["podFailurePolicy"]["rules"]
    codes = [rule for rule in rules if "onExitCodes" in rule]
    action = next((rule["action"] for rule in codes if code in rule["onExitCodes"]["values"]), "Count")
    found = end_of(pod("p", **ended("primary", code)))
    assert found is not None
    assert {"FailJob": Payer.MISTAKE, "Ignore": Payer.SYSTEM, "Count": Payer.USER}[action] is found.payer
    assert all(r["onExitCodes"]["values"] == sorted(r["onExitCodes"]["values"]) for r in codes)


def test_budgets_are_bounded() -> None:
    memory, system = Ledger(), Ledger()
    for number in range(RETRIES + 1):
        assert not memory.overdrawn()
        memory.see({f"p{number}": pod(f"p{number}", **ended("primary", 137, "OOMKilled"))})
    assert "failed 4 times" in memory.overdrawn() and "ask for more" in memory.overdrawn()
    for number in range(SYSTEM_RETRIES + 1):
        assert not system.overdrawn()
        system.see({f"p{number}": pod(f"p{number}", "Running")})
        system.see({})
    assert "the cluster failed it 17 times" in system.overdrawn() and "deleted" in system.overdrawn()


def test_a_pod_is_counted_once() -> None:
    ledger = Ledger()
    failed = {"p": pod("p", **ended("primary", 170))}
    assert len(ledger.see(failed)) == 1 and not ledger.see(failed) and not ledger.see({})
    ledger.see({"q": pod("q", "Succeeded")})
    assert not ledger.see({}) and ledger.spent(Payer.SYSTEM) == 1


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize(
    "job", [stage_job(SUBMITTED, TRAINS, OWNER), driver_job(SUBMITTED, ["lehr", "driver"])], ids=["stage", "driver"]
)
def test_pods_are_restricted_and_keys_are_named_for_the_main_container_alone(job: Object) -> None:
    spec = job["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["seccompProfile"] == {
        "type": "RuntimeDefault"
    }
    assert spec["restartPolicy"] == "Never" and not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in containers(spec):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}  # fmt: skip
        assert container["image"] == "lehr:1" and {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert ("envFrom" in container) == (container["name"] == "primary")
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert "secret" not in json.dumps(spec["volumes"])


def test_the_driver_alone_has_a_token() -> None:
    stage, driver = (
        job["spec"]["template"]["spec"] for job in (stage_job(SUBMITTED, TRAINS, OWNER), driver_job(SUBMITTED, ["x"]))
    )
    assert stage["automountServiceAccountToken"] is False and stage["serviceAccountName"] == "trainer"
    assert driver["automountServiceAccountToken"] is True and driver["serviceAccountName"] == "lehr-driver"


def test_a_stages_pod_is_as_flytes() -> None:
    """Preflight and gate with its GPUs, the supervisor before the command, and labels by which the fleet knows it."""
    job = stage_job(SUBMITTED, TRAINS, OWNER)
    spec = job["spec"]["template"]["spec"]
    assert [c["name"] for c in containers(spec)] == ["preflight", "preflight-gate", "primary"]
    assert spec["containers"][0]["command"] == ["python", "-m", "lehr.infra.pod.supervisor", *TRAINS.command]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "8"}
    assert spec["initContainers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/part-of": "lehr", "lehr.dev/run": "tiny-12345678", "lehr.dev/stage": "stage1",
                      "lehr.dev/recipe": "tiny-olmo-2", "lehr.dev/preflight": "true"}  # fmt: skip
    assert job["metadata"]["ownerReferences"][0]["uid"] == OWNER["metadata"]["uid"]
    light = stage_job(SUBMITTED, StagePod("documents", ["x"], PodRequest("1", "2Gi", checked=False)), OWNER)["spec"]["template"]
    assert "initContainers" not in light["spec"] and "lehr.dev/preflight" not in light["metadata"]["labels"]


def test_a_stages_pod_is_scraped_and_the_drivers_is_not() -> None:
    """By a monitor that looks for the port's name, or by annotations; the driver serves nothing."""
    template = stage_job(SUBMITTED, TRAINS, OWNER)["spec"]["template"]
    (port,) = template["spec"]["containers"][0]["ports"]
    asked = {key.removeprefix("prometheus.io/"): value for key, value in template["metadata"]["annotations"].items()}
    assert asked == {"scrape": "true", "port": str(port["containerPort"]), "path": "/metrics"}
    driver = driver_job(SUBMITTED, ["x"])["spec"]["template"]
    assert "annotations" not in driver["metadata"] and "ports" not in driver["spec"]["containers"][0]


def test_gpus_have_the_name_that_the_cluster_gives_them() -> None:
    """In requests and limits, for the preflight and among the taints that are tolerated."""
    amd = replace(SUBMITTED, gpu_resource="amd.com/gpu")
    spec = stage_job(parse(amd.text()), TRAINS, OWNER)["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "64Gi", "amd.com/gpu": "8"}
    assert spec["initContainers"][0]["resources"]["limits"]["amd.com/gpu"] == "8"
    assert spec["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "nvidia" not in json.dumps({**spec, "containers": [{**c, "env": []} for c in spec["containers"]]})


def test_names_fit_and_differ() -> None:
    assert run_name("Tiny_OLMo.2", "0123456789abcdef") == "tiny-olmo-2-01234567"
    long = [job_name("r" * 24 + "-01234567", f"{'scores-' * 7}anneal-{n}", "abcdef01-2345") for n in (1, 2)]
    assert len(set(long)) == 2 and all(len(name) <= LONGEST and name.endswith("-abcde") for name in long)


def test_a_submission_survives_its_text() -> None:
    assert parse(SUBMITTED.text()) == SUBMITTED
    with pytest.raises(UserError, match="no submission"):
        parse("{}")


def test_the_pods_program_knows_what_it_is_told_by() -> None:
    """lehr.tasks may not import lehr.infra.jobs, so both name these."""
    assert (pod_stage.SUBMISSION, pod_stage.INPUTS, pod_stage.REPORT) == (VARIABLE, INPUTS, REPORT)
    assert RunRef.model_validate(json.loads(SUBMITTED.text())["run"]).root == RUN["root"]


def test_a_fault_of_ours_leaves_its_line_in_the_pod(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEHR_TERMINATION_LOG", str(tmp_path / "word"))
    monkeypatch.setenv("STORE_SECRET_KEY", "planted-value")
    assert pod_stage.ended(UserError("no\nsuch file planted-value", where="x", remedy="mend it")) == 2
    assert (tmp_path / "word").read_text() == "x: no such file ***. Mend it."
    assert pod_stage.ended(KeyError("y")) == 70
    assert (tmp_path / "word").read_text() == "KeyError: 'y'" and "error: KeyError: 'y'" in capsys.readouterr().err
