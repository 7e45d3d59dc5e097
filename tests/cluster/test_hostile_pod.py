"""What a pod of a training namespace may do, with all that a tenant can forge, against the real API server and the controller:
it gets no more nodes cordoned than the policy grants, releases none, and reaches nothing that is not its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from lehr.infra.controller.objects import ATTEMPT, MACHINE, NODE, PROGRESS, SUITE
from lehr.infra.fleet.breaker import cap, limit
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.serialization import encode
from lehr.infra.jobs.drive import RunJobs
from lehr.infra.jobs.specs import StagePod, driver_job, stage_job
from lehr.infra.jobs.submission import Submission, job_name, jobs_path
from lehr.infra.kube.api import NODES, Api, ApiError, Object
from lehr.infra.kube.transport import Request
from lehr.infra.pod.pod_request import PodRequest
from lehr.monitoring.metrics import Fleet
from lehr.runtime.errors import UserError
from tests.cluster.chart import render
from tests.cluster.conftest import OTHER, TRAINING, World, eventually
from tests.cluster.kubelet import EXECUTION, Cluster, bad_verdict, pods_path
from tests.cluster.objects import PATHS, bystander, create, gated_pod
from tests.cluster.scenario import Scenario
from tests.cluster.statuses import ended
from tests.cluster.test_hostile import accuse
from tests.cluster.test_life import PASS, PATIENT
from tests.cluster.test_trainer import JOBS, pod_on

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SYSTEM, ROUNDS_SECONDS = NAMES.namespace, 1.2  # two rounds of the controller of these tests
LIES = (NAMES.record_annotation, NAMES.cordon_annotation, NAMES.hold_annotation, NAMES.override_annotation,
        NAMES.repaired_annotation, NAMES.repair_annotation, NAMES.reset_annotation)  # fmt: skip


def forged(pod: Object, victim: str, node: str) -> Object:
    """With the labels of another run's pods and of the controller's tests, and the annotations of a node that is well."""
    act = json.dumps({"by": "olga", "reason": "it is well", "at": time.time(), "until": time.time() + 86_400})
    labels = {
        EXECUTION: victim,
        NAMES.run_label: victim,
        NAMES.stage_label: "driver",
        NAMES.managed_label: "true",
        "retry": "no",
        "attempt": "0",
    }
    notes = dict.fromkeys(LIES, act) | {NODE: node, ATTEMPT: "1", PROGRESS: json.dumps({"run": victim, "nodes": 2048})}
    pod["metadata"]["labels"] |= labels
    pod["metadata"]["annotations"] = notes
    return pod


def test_one_tenants_lies_cordon_no_more_than_the_policy_grants(world: World, cluster: Cluster) -> None:
    """About every node of a pool, each with a check and a version of its own, that no limit of a check counts together. Who
    works there already stays, though the liars wear his labels."""
    with Scenario(world, cluster, bad=(), spares=9) as run:
        victims = [pod_on(world, run, node, number) for number, node in enumerate(run.nodes[:3])]
        life = run.live()
        for number, node in enumerate(run.nodes):
            lie = encode(replace(bad_verdict(f"check-{number}", "x" * 3000), version=str(number)))
            cluster.behaviours[node].message, cluster.behaviours[node].test = (lambda lie=lie: lie), lambda: None
            pod = gated_pod(TRAINING, f"{run.pool}-liar{number}", 0, run.pool, node, gpus=0)
            world.admin.create(pods_path(TRAINING), forged(pod, f"{run.pool}-x0", run.nodes[0]))
        accused = lambda: all(run.node(name).state not in ("", "healthy") for name in run.nodes)
        eventually(accused, "every lie has been heard")
        time.sleep(ROUNDS_SECONDS)
        away = [name for name in run.nodes if run.node(name).cached.unschedulable]
        granted = min(limit(len(run.nodes), Policy()), cap(len(run.nodes), Policy()))
        assert 1 <= len(away) <= granted < len(run.nodes), away
        for victim in victims:
            now = world.admin.get(pods_path(TRAINING, victim["metadata"]["name"]))
            assert now["metadata"]["uid"] == victim["metadata"]["uid"] and not now["metadata"].get("deletionTimestamp")
        run.jobs = 0
        run.check_pods(set())  # nor was another namespace's pod touched
        assert life.controller.metrics.registry.get_sample_value(Fleet.ERRORS.name, {"reason": "bug"}) is None


def test_a_forged_test_releases_no_node(world: World, cluster: Cluster) -> None:
    """The copy of a test's Job and of its pod, in a training namespace, says that the node passed."""
    with Scenario(world, cluster, bad=(0,)) as run:
        name = run.nodes[0]
        run.live(policy=PATIENT["policy"])
        accuse(world, cluster, run, 0, "old")
        of_node = lambda: [job for job in world.admin.items(JOBS) if job["metadata"]["annotations"][NODE] == name]
        eventually(of_node, "the node is tested")
        (job,) = of_node()
        meta = {key: job["metadata"][key] for key in ("name", "labels", "annotations")}
        body = bystander(TRAINING, f"{meta['name']}-x", name)
        body["metadata"] |= {"labels": {**meta["labels"], "batch.kubernetes.io/job-name": meta["name"]},
                             "annotations": meta["annotations"]}  # fmt: skip
        assert SUITE in meta["labels"] and {NODE, MACHINE} <= set(meta["annotations"])
        pod = world.admin.create(pods_path(TRAINING), forged(body, f"{run.pool}-x", name))
        passed = [ended(NAMES.preflight_container, PASS)]
        status = {"phase": "Succeeded", "containerStatuses": passed, "initContainerStatuses": passed}
        world.admin.merge(f"{pods_path(TRAINING, pod['metadata']['name'])}/status", {"status": status})
        template = {"metadata": {}, "spec": {**body["spec"], "restartPolicy": "Never"}}
        del template["spec"]["nodeName"]
        copy = {"metadata": meta, "spec": {"suspend": True, "template": template}}
        made = world.admin.create(jobs_path(TRAINING), copy)
        try:
            time.sleep(ROUNDS_SECONDS)
            record = run.node(name).cached.record
            assert record is not None and not record.passes and run.node(name).state == "revalidating"
            assert run.node(name).cordon is not None and [one["metadata"]["uid"] for one in of_node()] == [
                job["metadata"]["uid"]
            ]
        finally:
            world.admin.delete(jobs_path(TRAINING, meta["name"]), made["metadata"]["uid"])


@pytest.fixture(scope="module")
def driver(world: World) -> Iterator[None]:
    """The account that has a right at all, as the chart makes it."""
    values = {"training": {"driver": {"create": True}, "namespaces": [{"name": TRAINING, "create": False}]}}
    made = [item for item in render(values) if item["metadata"]["name"].endswith("lehr-driver")]
    made = [item for item in made if item["kind"] in ("ServiceAccount", "Role", "RoleBinding")]
    assert len(made) == 3
    for item in made:
        create(world.admin, item)
    yield
    for item in made:
        path = f"{PATHS[item['kind']].format(TRAINING)}/{item['metadata']['name']}"
        world.admin.delete(path, world.admin.get(path)["metadata"]["uid"])


def token_of(world: World, account: str) -> Api:
    path = f"/api/v1/namespaces/{TRAINING}/serviceaccounts/{account}/token"
    token = world.admin.create(path, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    return Api(world.transport(world.plane.kubeconfig(f"hostile-{account}", token)))


def tries(api: Api, pod: str) -> dict[str, Callable[[], object]]:
    """What a tenant's token is tried for. `pod` is another run's, in the same namespace."""
    note = {"metadata": {"annotations": {NAMES.repaired_annotation: "{}"}}}
    bindings, rbac = {"metadata": {"name": "x"}}, "/apis/rbac.authorization.k8s.io/v1"
    report = {"metadata": {"generateName": "r-"}, "spec": {"node": "fence", "reason": "slow", "by": "olga"}}
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lehr-controller"
    delete = lambda path: lambda: api._json(Request("DELETE", path, body={}))
    found: dict[str, Callable[[], object]] = {
        "see nodes": lambda: api.items(NODES),
        "annotate a node": lambda: api.merge(f"{NODES}/fence", note),
        "set a node's condition": lambda: api.merge(f"{NODES}/fence/status", {"status": {"conditions": []}}),
        "report a node": lambda: api.create(f"/apis/{NAMES.prefix}/v1/namespaces/{TRAINING}/nodereports", report),
        "annotate a pod": lambda: api.merge(pods_path(TRAINING, pod), note),
        "forge a verdict": lambda: api.merge(f"{pods_path(TRAINING, pod)}/status", {"status": {"phase": "Failed"}}),
        "delete a pod": delete(pods_path(TRAINING, pod)),
        "read a log": lambda: api.text(f"{pods_path(TRAINING, pod)}/log"),
        "evict a pod": lambda: api.create(f"{pods_path(TRAINING, pod)}/eviction", {"metadata": {"name": pod}}),
        "take the controller's Lease": lambda: api.merge(lease, {"spec": {"holderIdentity": "me"}}),
        "be the controller": lambda: api.create(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/lehr-controller/token", {}),
        "bind a role": lambda: api.create(f"{rbac}/namespaces/{TRAINING}/rolebindings", bindings),
        "bind a cluster's role": lambda: api.create(f"{rbac}/clusterrolebindings", bindings),
        "remove the fence": delete(f"{PATHS['ValidatingAdmissionPolicy']}/lehr-controller-nodes"),
    }
    for place in (OTHER, SYSTEM):
        found[f"see the pods of {place}"] = lambda place=place: api.items(pods_path(place))
        found[f"see the Jobs of {place}"] = lambda place=place: api.items(jobs_path(place))
        found[f"make a Job in {place}"] = lambda place=place: api.create(jobs_path(place), {"metadata": {"name": "x"}})
        found[f"delete the Jobs of {place}"] = delete(jobs_path(place))
    for place in (TRAINING, OTHER, SYSTEM):
        found[f"read the Secrets of {place}"] = lambda place=place: api.items(f"/api/v1/namespaces/{place}/secrets")
        found[f"write ConfigMaps in {place}"] = lambda place=place: api.create(
            f"/api/v1/namespaces/{place}/configmaps", bindings
        )
    return found


@pytest.mark.parametrize("account", ["default", "lehr-task", "lehr-driver"])
@pytest.mark.usefixtures("driver")
def test_a_pods_token_reaches_nothing_that_is_not_its_own(world: World, account: str) -> None:
    other = world.admin.create(pods_path(TRAINING), bystander(TRAINING, f"other-run-{account}", "nowhere"))
    api, name = token_of(world, account), other["metadata"]["name"]
    answers = {}
    for what, call in tries(api, name).items():
        with pytest.raises(ApiError) as refused:
            call()
        answers[what] = refused.value.status
    assert set(answers.values()) == {403}, answers
    if account == "lehr-driver":
        eventually(lambda: api.items(jobs_path(TRAINING)) is not None, "and what it may do it does")
    assert world.admin.get(pods_path(TRAINING, name))["metadata"]["uid"] == other["metadata"]["uid"]
    world.admin._json(Request("DELETE", pods_path(TRAINING, name), body={"gracePeriodSeconds": 0}))


def test_a_job_under_the_name_of_a_runs_stage_is_not_taken_for_its_own(world: World) -> None:
    """Else the driver would wait for it for ever."""
    submission = Submission("squatted-12345678", TRAINING, "lehr:1", {"key": "k"}, "x")
    owner = world.admin.create(jobs_path(TRAINING), {**driver_job(submission, ["true"])})
    stage = StagePod("stage1", ["true"], PodRequest("1", "1Gi", checked=False))
    job, jobs = stage_job(submission, stage, owner), RunJobs(world.admin, submission)
    forged_job = {**job, "metadata": {**job["metadata"], "ownerReferences": []}}
    forged_job["spec"] = {**job["spec"], "suspend": True}
    squatter = world.admin.create(jobs_path(TRAINING), forged_job)
    try:
        with pytest.raises(UserError, match=r"there is a Job squatted-12345678-stage1-\w+ that is not this run's"):
            jobs.start(job)
        assert not jobs.look(), "nor is it seen as one of the run's"
        world.admin.delete(jobs_path(TRAINING, job["metadata"]["name"]), squatter["metadata"]["uid"])
        eventually(lambda: jobs.start(job) or jobs.look(), "with its name free it starts")
        jobs.start(job)  # as after a restart of the driver
    finally:
        name = job_name(submission.name, "driver")
        world.admin.delete(jobs_path(TRAINING, name), owner["metadata"]["uid"])
