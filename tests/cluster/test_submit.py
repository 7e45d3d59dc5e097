"""`lehr submit --backend kubernetes` on a real API server, with pods as processes and a real S3 server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.artifacts.folder_store import LocalStore
from lehr.config import load_recipe
from lehr.infra.kube.api import Api
from lehr.infra.kube.transport import connect
from lehr.pipeline.attempt import StageContext
from tests.cluster.conftest import TRAINING, eventually
from tests.cluster.job_pods import JobPod
from tests.cluster.submitted_runs import IMPATIENT, PLANTED, RECIPE, STARTED_SECONDS, UNLABELLED, Place, local_digests, place
from tests.cluster.test_rights import VERBS, can_i
from tests.staging import made_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
OUT = "s3://runs/tiny"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("submit")) as made:
        yield made


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on this machine."""
    return tmp_path_factory.mktemp("local") / "run"


@pytest.fixture(scope="module")
def expected(here: Path) -> dict[str, str]:
    """The digests of `lehr run` here."""
    return local_digests(here)


def test_a_run_has_the_digests_of_a_laptop_and_its_keys_are_nowhere(there: Place, expected: dict[str, str]) -> None:
    run = there.submit(OUT)
    print(f"started in {there.seconds:.1f} s of processor time")
    assert there.seconds < STARTED_SECONDS
    assert there.ended(run) == "Complete", there.home.why()
    assert there.digests(OUT) == expected
    states = there.states(run)
    assert set(states) == {"driver", "report", *expected} and {s["state"] for s in states.values()} == {"finished"}
    assert all(state["pods"] == 1 for state in states.values())
    driver, stage = there.lehr("logs", run, "-n", TRAINING), there.lehr("logs", run, "stage1", "-n", TRAINING)
    assert f"report: {OUT}/report.html" in driver and "soup: finished" in driver and "stage1" in stage
    kinds = there.home.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    seen = [there.home.kubectl("get", ",".join(k for k in kinds if k != "secrets"), "-A", "-o", "yaml")]
    seen += [path.read_text(errors="replace") for path in there.pods.folder.glob("*/*.log")]
    seen += [there.stored(OUT, name) for name in ("recipe.yaml", "report.html", "lineage.json")]
    assert len(seen) > 15 and not [text for text in seen if PLANTED in text]
    assert "path: inputs/" in there.stored(OUT, "recipe.yaml"), "the recipe names no path of a machine"
    again = there.submit(OUT)
    assert again == run and there.ended(run) == "Complete"
    assert set(there.states(run)) == {"driver", "report"}, "all stages are found again"


def test_the_preflight_runs_before_a_stage_that_computes(there: Place) -> None:
    """As a container before the task's, without keys; the gate reads its verdict. Of the run above."""
    pod = there.pods.of_stage("stage1")[0]
    verdict = json.loads(pod.ended["preflight"]["message"])
    found = {result["check"]: result["outcome"] for result in verdict["results"]}
    # Where two cores are shared a collective of two processes may not answer in time, which is inconclusive.
    assert found["matmul"] == found["disk"] == "pass" and verdict["outcome"] in ("pass", "inconclusive"), verdict
    assert pod.ended["preflight-gate"]["exitCode"] == 0


def test_the_drivers_account_may_do_no_more_than_it_needs(there: Place) -> None:
    path = f"/api/v1/namespaces/{TRAINING}/serviceaccounts/lehr-driver/token"
    token = there.admin.create(path, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    api = Api(connect(there.home.world.plane.kubeconfig("driver", token)))
    may = {"jobs.batch": {"get", "list", "create", "delete"}, "pods": {"list"}, "events": {"list"}}
    asked = [*may, "pods/log", "pods/exec", "secrets", "configmaps", "serviceaccounts/token", "services"]
    for resource in asked:
        allowed = {verb for verb in VERBS if can_i(api, verb, resource, TRAINING)}
        assert allowed == may.get(resource, set()), resource
    assert not any(can_i(api, verb, "jobs.batch", "lehr-system") for verb in VERBS)
    assert not any(can_i(api, verb, "nodes", "") for verb in VERBS)


@pytest.fixture
def unchecked(there: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preflights take their time on two cores, and ran above."""
    monkeypatch.setattr(there.pods, "preflights", ())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.long
def test_pods_killed_and_deleted_and_a_store_that_is_away_change_nothing(there: Place, expected: dict[str, str]) -> None:
    """The driver is killed too. The store is away for longer than a pod waits for it."""
    out, before = "s3://runs/disturbed", set(there.pods.history)
    run = there.submit(out, "--secret", IMPATIENT)

    def started(stage: str) -> bool:
        return any(_run(p) == run and p.process is not None for p in there.pods.of_stage(stage))

    eventually(lambda: started("tokenizer"), "the tokenizer's pod runs", 240)
    _newest(there, run, "tokenizer").kill()
    eventually(lambda: started("stage1"), "the first training's pod runs", 300)
    eventually(lambda: _saved(there, out), "the first training has saved itself", 120)
    there.home.kubectl("delete", "pod", "-n", TRAINING, _newest(there, run, "stage1").name, "--wait=false")
    eventually(lambda: "stage1: pod " in _log(there, run, "driver"), "the driver has seen it", 60)
    _newest(there, run, "driver").kill()
    eventually(lambda: "going on at step" in _log(there, run, "stage1"), "the training goes on", 120)
    there.way.cut()
    eventually(lambda: "exit code 170" in _ends(_newest(there, run, "stage1")), "its pod has ended without the store", 60)
    there.way.mend()
    assert there.ended(run) == "Complete", there.home.why()
    assert there.digests(out) == expected
    states = there.states(run)
    assert (states["tokenizer"]["pods"], states["stage1"]["pods"], states["driver"]["pods"]) >= (2, 1, 2), states
    log = "".join(p.log_path.read_text() for uid, p in there.pods.history.items() if uid not in before and _run(p) == run)
    assert "costs the system a retry" in log and "costs one of three" not in log
    assert len(_pods(there, run, "stage1")) == 3 and "going on at step" in _log(there, run, "stage1")
    (incidents,) = [key for key in there.keys(out, "artifacts/stage1-") if key.endswith("/incidents.txt")]
    said = there.stored("s3://runs/disturbed", incidents.partition("/")[2])
    assert "ended with Preempted" in said and "had recorded no end when attempt 3 began: killed, cut off from its store" in said
    assert "s3://runs/disturbed" in log and "the store cannot be reached" in log and there.way.refused, log


def _ends(pod: JobPod) -> str:
    """How its containers ended."""
    return " ".join(f"{name}: exit code {state['exitCode']}" for name, state in pod.ended.items())


def _log(there: Place, run: str, stage: str) -> str:
    path = _newest(there, run, stage).log_path
    return path.read_text(errors="replace") if path.exists() else ""


def _run(pod: JobPod) -> str:
    return str(pod.pod["metadata"]["labels"]["lehr.dev/run"])


def _newest(there: Place, run: str, stage: str) -> JobPod:
    return [pod for pod in there.pods.of_stage(stage) if _run(pod) == run][-1]


NODES = ("parallel.layout=fsdp", "compute.stages={stage1: {nodes: 2}}", "stage1.tokens=49_152")


@pytest.mark.usefixtures("unchecked")
def test_a_stage_on_two_nodes_that_loses_one_has_the_weights_of_one_machine(there: Place, here: Path) -> None:
    """Each pod has a rank. One is killed: another takes its place, while the ranks of the first start again in their pod, from
    the copies in its memory; nobody pays, and the digest is that of one machine."""
    before = there.made(OUT, "stage1")
    given = (*NODES, "watch.copy_steps=3", "stage1.checkpoint_steps=1000")
    run = there.submit(OUT, "--parallel", "1", *(word for each in given for word in ("--set", each)))
    eventually(lambda: len(_pods(there, run, "stage1")) == 2, "two pods are there", 240)
    leader, killed = sorted(_pods(there, run, "stage1"), key=lambda pod: pod.name)
    assert leader.pod["spec"]["nodeName"] != killed.pod["spec"]["nodeName"]
    eventually(lambda: len(list(leader.folder.rglob("lehr-copies/*/*.json"))) >= 4, "the training has copied itself", 240)
    killed.kill()
    eventually(lambda: "stage1: finished" in _log(there, run, "driver"), "the stage has finished", 300)
    log = _log(there, run, "driver")
    assert f"pod {killed.name} ended and is replaced: exit code 137" in log and "attempt 2" not in log, log
    assert "finished after 0 retries of the user's and 0 of the system's, 1 pods replaced" in log, log
    row = there.states(run)["stage1"]
    assert row["state"] == "finished" and row["pods"] == 3, row
    (again,) = {pod.name for pod in _pods(there, run, "stage1")} - {leader.name, killed.name}
    said = leader.log_path.read_text()
    assert "they start again in this pod" in said and "is from copies in memory" in said and "going on at step" in said, said
    other = next(pod for pod in _pods(there, run, "stage1") if pod.name == again)
    assert other.log_path.read_text() in there.lehr("logs", run, "stage1", "-n", TRAINING, "--index", "1")
    left = there.keys(OUT, f"rendezvous/stage1/{_job(_newest(there, run, 'stage1'))}")
    assert [key.rpartition("/")[2] for key in left] == ["round"], "addresses go with their attempt"
    there.lehr("cancel", run, "-n", TRAINING)
    one, recipe = StageContext(LocalStore(here), fetch=Path), load_recipe(RECIPE, [*NODES])
    local = made_of(recipe, ["documents", "tokenizer", "shards", "stage1"], one)["stage1"]
    assert there.made(OUT, "stage1") - before == {local.manifest.digest}
    eventually(lambda: not there.objects(run), "nothing is left")


@pytest.mark.usefixtures("unchecked")
def test_a_mistake_on_two_nodes_ends_the_run_at_once(there: Place) -> None:
    """Found by the ranks while both train. A pod that has not found it yet when the other ends is ended by Kubernetes."""
    settings = (*NODES, "stage1.optim.lr=1e12")
    run = there.submit(OUT, "--parallel", "1", *(word for given in settings for word in ("--set", given)))
    assert there.ended(run) == "Failed"
    eventually(lambda: there.states(run)["stage1"]["state"] == "failed", "the stage has failed for good", 240)
    states = there.states(run)
    assert states["stage1"]["pods"] == 2 and len(_pods(there, run, "stage1")) == 2, states
    assert states["driver"]["said"].startswith("stage1: pod ") and "training diverged" in states["driver"]["said"], states
    there.lehr("cancel", run, "-n", TRAINING)


def _pods(there: Place, run: str, stage: str) -> list[JobPod]:
    return [pod for pod in there.pods.of_stage(stage) if _run(pod) == run]


def _job(pod: JobPod) -> str:
    return str(pod.pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"])


def test_a_mistake_ends_the_run_with_its_line(there: Place, tmp_path: Path) -> None:
    """A file that is no JSON lines: found by the pod that reads it, and never tried again."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": 1}\nnot json\n')
    run = there.submit("s3://runs/bad", "--set", f"data.sources.bible.path={bad}")
    assert there.ended(run) == "Failed"
    states = there.states(run)
    assert states["documents"]["pods"] == 1 and states["driver"]["pods"] == 1
    assert states["driver"]["said"].startswith("documents: pod ") and "bad.jsonl" in states["driver"]["said"], states
    there.lehr("cancel", run, "-n", TRAINING)
    eventually(lambda: not there.objects(run), "nothing is left")


@pytest.fixture
def quota(there: Place) -> Iterator[str]:
    """The path of a quota that has room for two pods, of which one is taken."""
    path = f"/api/v1/namespaces/{TRAINING}/resourcequotas"
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    container = {"name": "c", "image": "x", "securityContext": {**locked, "seccompProfile": {"type": "RuntimeDefault"}}}
    container |= {"resources": {"requests": {"cpu": "1"}}}
    spec = {"schedulerName": "nobody", "containers": [container]}
    # The pod first: one that comes while a quota is counted for the first time is in no count until the next one, in minutes.
    taken = there.admin.create(f"/api/v1/namespaces/{TRAINING}/pods", {"metadata": {"name": "others"}, "spec": spec})
    time.sleep(1.0)  # until the controller that counts has heard of it
    made = there.admin.create(path, {"metadata": {"name": "narrow"}, "spec": {"hard": {"pods": "2", "requests.cpu": "64"}}})
    eventually(lambda: there.admin.get(f"{path}/narrow").get("status", {}).get("used", {}).get("pods") == "1", "counted")
    yield f"{path}/narrow"
    there.admin.delete(f"{path}/narrow", made["metadata"]["uid"])
    there.admin.delete(f"/api/v1/namespaces/{TRAINING}/pods/others", taken["metadata"]["uid"])


def test_a_quota_is_said_and_costs_nothing_and_cancel_leaves_all_in_the_store(there: Place, quota: str) -> None:
    """The quota has no room for the first stage, until it is raised; then the run is cancelled."""
    out = "s3://runs/cancelled"
    refused = there.submit(out, "--set", "compute.stages={stage1: {cpu: '64'}}", code=2)
    assert "compute: stage1 needs 65 of requests.cpu at once, and the quota narrow gives 64 in all. Ask for less" in refused
    run = there.submit(out)
    said, words = lambda: there.states(run).get("documents", {}).get("said", ""), "exceeded quota: narrow, requested: pods=1"
    eventually(lambda: f"{words}, used: pods=2, limited: pods=2. Wait until" in said(), "it is said", 120)
    logged = "documents: waits for a pod, which costs nobody a retry: pods"
    eventually(lambda: logged in _log(there, run, "driver"), "it is logged", 60)
    there.admin.merge(quota, {"spec": {"hard": {"pods": "50"}}})
    eventually(lambda: any(_run(p) == run for p in there.pods.of_stage("documents")), "a stage runs", 120)
    assert "retries of" not in _log(there, run, "driver")
    assert "at work already" in there.lehr(
        "submit", str(Path(__file__).with_name("submitted.yaml")), "--backend", "kubernetes", "--out", out, "--image",
        "lehr:test", "-n", TRAINING, "--secret", "store",
    )  # fmt: skip
    said = there.lehr("cancel", run, "-n", TRAINING)
    assert f"cancelled: {run}" in said
    eventually(lambda: not there.objects(run), "nothing is left")
    assert "name: Submitted.e2e" in there.stored(out, "recipe.yaml")
    assert f"no run {run}" in there.lehr("status", run, "-n", TRAINING, code=2)


REFUSED = (
    (("--out", "runs/x"), "--out runs/x: a folder of this machine is in no pod. Give s3://BUCKET/PREFIX."),
    (("--image", ""), "--image: no image is named."),
    (("-n", "other"), "you may not"),
    (("-n", "nowhere"), "you may not"),
    (("-n", UNLABELLED), "--namespace: the namespace unlabelled is not one for training"),
    (("--service-account", "nobody"), "there is no service account nobody"),
    (("--set", "compute.stages={stage1: {gpus: 2}}"), "stage1 asks for 2 GPUs, and no node has more than 0 of nvidia.com/gpu."),
    (("--set", "compute.stages={stage1: {gpus: 2}}", "--gpu-resource", "amd.com/gpu"), "more than 0 of amd.com/gpu."),
)


@pytest.mark.parametrize(("more", "line"), REFUSED)
def test_what_cannot_work_is_refused_before_anything_starts(there: Place, more: tuple[str, ...], line: str) -> None:
    before = there.admin.items(f"/apis/batch/v1/namespaces/{TRAINING}/jobs")
    said = there.submit("s3://runs/refused", *more, code=2)
    assert line in said and len([part for part in said.splitlines() if part.startswith("error: ")]) == 1, said
    assert len(there.admin.items(f"/apis/batch/v1/namespaces/{TRAINING}/jobs")) == len(before)


def _saved(there: Place, out: str) -> bool:
    """Whether stage1 has saved itself; what its energy was so far lies beside its saves."""
    return any("/energy/" not in key for key in there.keys(out, "work/stage1-"))
