"""`lehr submit` and its companions on Flyte's real engine, against the double of its control plane."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from tests.cluster.conftest import eventually
from tests.cluster.engine import FLYTE_BUCKET, NAMESPACE, Paid
from tests.cluster.engine_place import BUCKET, MACHINES, STORE, Place
from tests.cluster.submitted_runs import STARTED_SECONDS, told
from tests.storage.s3_server import SECRET as PLANTED

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
OUT = "s3://runs/from-a-laptop"
FREE = Paid(0, 0)
REGISTERED_SECONDS = 10.0  # of processor time: `lehr submit` where nothing is registered yet


@dataclass
class Submitter:
    """A user with keys of the store, a Flyte and a kubeconfig."""

    flyte: Place
    recipe: Path
    folder: Path
    seconds: float = 0.0  # of processor time that the last command took

    def lehr(self, *arguments: str, code: int = 0) -> str:
        """What a command prints, both streams; it must end with `code`."""
        own = {"KUBECONFIG": str(self.flyte.home.kubeconfig), "LEHR_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        environment = {**self.flyte.flyteadmin.environment(), **own, "TMPDIR": str(self.folder)}
        command = [sys.executable, "-m", "lehr.cli.main", *arguments]
        said, found, self.seconds = told(command, environment)
        assert found == code, f"{arguments}: {found}\n{said}\n{self.flyte.flyteadmin.answers.errors}"
        return said

    def submit(self, out: str, *more: str, code: int = 0) -> str:
        return self.lehr("submit", str(self.recipe), "--out", out, "--image", "lehr:test", "--secret", STORE, *more, code=code)

    def states(self, run: str) -> dict[str, dict[str, Any]]:
        return {state["stage"]: state for state in json.loads(self.lehr("status", run, "--json"))}


def holding(flyte: Place, text: str) -> Iterator[str]:
    """The objects of the store, the runs' and Flyte's own, that have `text` in them."""
    client = flyte.client()
    for bucket in (BUCKET, FLYTE_BUCKET):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                if text.encode() in client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read():
                    yield f"{bucket}/{item['Key']}"


def name_in(said: str) -> str:
    return next(line.split()[1] for line in said.splitlines() if line.startswith(("started: ", "at work already: "))).strip()


@pytest.fixture(scope="module")
def user(flyte: Place, tmp_path_factory: pytest.TempPathFactory) -> Submitter:
    """With a recipe and a file of documents that are on this machine alone."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(ROOT / "recipes" / "data" / "bible.jsonl.gz", folder / "mine.jsonl.gz")
    recipe = folder / "mine.yaml"
    recipe.write_text(f"inherits: {ROOT}/tests/cluster/admin.yaml\nname: mine\n"
                      "data: {sources: {bible: {path: mine.jsonl.gz}}}\n")  # fmt: skip
    for machine in (*MACHINES, "system"):
        flyte.pods.serve_logs_of(machine)
    return Submitter(flyte, recipe, folder)


def test_a_recipe_and_its_data_go_from_a_laptop_to_flyte_and_end_with_its_digests(user: Submitter, tmp_path: Path) -> None:
    said = user.submit(OUT)
    run = name_in(said)
    print(f"registered and started in {user.seconds:.1f} s of processor time")
    assert user.seconds < REGISTERED_SECONDS
    assert "registered: lehr.workflows.run.submitted, version " in said and f"{OUT}/report.html" in said
    assert f"status:  lehr status {run} --project lehr --domain development" in said
    flyteadmin = user.flyte.flyteadmin
    assert "at work already" in user.submit(OUT)
    assert flyteadmin.ended(run) == "SUCCEEDED", user.flyte.why(run)

    command = [sys.executable, "-m", "lehr.cli.main", "run", str(user.recipe), "--out", str(tmp_path / "run"), "--no-mlflow"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=240)
    lineage = json.loads((tmp_path / "run" / "lineage.json").read_text())
    assert user.flyte.digests(OUT) == {entry["stage"]: entry["digest"] for entry in lineage}

    states = user.states(run)
    assert set(states) == {"execution", "report", *(entry["stage"] for entry in lineage)}
    assert {state["state"] for state in states.values()} == {"finished"}
    assert all(state["pods"] == 1 and state["pod"] for name, state in states.items() if name != "execution"), states
    assert "step" in user.lehr("logs", run, "stage1") and "no pod of" in user.lehr("logs", run, "nothing", code=2)
    assert f"/executions/{run}" in user.lehr("open", run, "--print")

    (node,) = (n for n in flyteadmin.admin.runs[run].nodes.values() if n.told.metadata.spec_node_id == "stage1")
    (task,) = node.tasks.values()
    links = {log.name.partition(" (")[0]: log.uri for log in task.closure.logs}
    assert links["MLflow"] == "https://MLFLOW/" and links["Grafana"].endswith("&var-stage=stage1"), links
    assert f"var-run={states['stage1']['pod'].partition('-')[0]}-" in links["Grafana"], links

    pods = user.flyte.pods.of(run)
    training = next(pod.pod for pod in pods if pod.pod["metadata"]["labels"].get("lehr.dev/stage") == "stage1")
    labels = training["metadata"]["labels"]
    assert labels["lehr.dev/recipe"] == "mine" and labels["lehr.dev/run"].startswith("mine-")
    sources = [{name for one in c.get("envFrom", []) for name in one} for c in training["spec"]["containers"]]
    assert {"secretRef"} in sources and not any(c.get("envFrom") for c in training["spec"]["initContainers"])
    seen = [json.dumps(pod.pod) for pod in pods] + [pod.log_path.read_text(errors="replace") for pod in pods]
    assert not [text for text in seen if PLANTED in text]
    assert not list(holding(user.flyte, PLANTED)), "nothing in the store: no task, input, graph, Deck, report"

    again = user.submit(OUT)
    assert "registered" not in again and name_in(again) != run
    print(f"started in {user.seconds:.1f} s of processor time")
    assert user.seconds < STARTED_SECONDS
    assert flyteadmin.ended(name_in(again)) == "SUCCEEDED"
    assert set(user.states(name_in(again))) == {"execution", "report"}, "all stages are found again"


@pytest.mark.long
def test_the_plain_way_works_the_same(user: Submitter) -> None:
    """`pyflyte run --remote`, as docs/fleet.md has it: code goes along, recipe and data are in the image."""
    environment = {
        **user.flyte.flyteadmin.environment(),
        "LEHR_TASK_SECRET": STORE,
        "TMPDIR": str(user.folder),
        "PYTHONPATH": str(ROOT),
    }
    command = [str(Path(sys.executable).with_name("pyflyte")), "run", "--remote", "-p", "lehr", "-d", "development",
               "--image", "default=lehr:test", "--destination-dir", "/tmp", "workflows/run.py", "run",
               "--recipe", str(ROOT / "tests" / "cluster" / "admin.yaml"), "--out", "s3://runs/plain"]  # fmt: skip
    before = set(user.flyte.flyteadmin.admin.runs)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr + str(user.flyte.flyteadmin.answers.errors)
    (run,) = set(user.flyte.flyteadmin.admin.runs) - before
    assert user.flyte.flyteadmin.ended(run) == "SUCCEEDED", user.flyte.why(run)
    assert {"documents", "stage1", "export"} <= set(user.flyte.digests("s3://runs/plain"))


def test_a_mistake_ends_the_run_and_its_line_is_seen(user: Submitter) -> None:
    bad = user.folder / "bad.jsonl"
    bad.write_text('{"text": 1}\nnot json\n')
    run = name_in(user.submit("s3://runs/bad-laptop", "--set", f"data.sources.bible.path={bad}"))
    assert user.flyte.flyteadmin.ended(run) == "FAILED"
    states = user.states(run)
    assert states["documents"]["state"] == "failed" and states["documents"]["pods"] == 1, states
    assert "bad.jsonl" in states["documents"]["said"] and states["execution"]["state"] == "failed", states


@pytest.fixture
def quota(user: Submitter) -> Iterator[str]:
    """The path of a quota that has no room for pods of the priority `scarce`."""
    path, admin = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas", user.flyte.admin
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    kind = admin.create(classes, {"metadata": {"name": "scarce"}, "value": 1})
    chosen = [{"scopeName": "PriorityClass", "operator": "In", "values": ["scarce"]}]
    spec = {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": chosen}}
    made = admin.create(path, {"metadata": {"name": "narrow"}, "spec": spec})
    eventually(lambda: admin.get(f"{path}/narrow").get("status", {}).get("hard"), "the quota is in force")
    yield f"{path}/narrow"
    admin.delete(f"{path}/narrow", made["metadata"]["uid"])
    admin.delete(f"{classes}/scarce", kind["metadata"]["uid"])


def test_a_quota_is_said_and_costs_nothing_and_cancel_leaves_all_in_the_store(user: Submitter, quota: str) -> None:
    """The quota has no room for the first stage, until it is raised; then the run is cancelled."""
    out = "s3://runs/cancelled-laptop"
    asked = ("--set", "compute.stages={documents: {priority: scarce}}")
    run = name_in(user.submit(out, *asked))
    states: dict[str, Any] = {}

    def waits() -> bool:
        states.update(user.states(run))
        return "exceeded quota: narrow" in states.get("documents", {}).get("said", "")

    eventually(waits, "what documents waits for is said", 300)
    assert states["documents"]["state"] == "waiting" and "or have the quota raised" in states["documents"]["said"], states
    user.flyte.admin.merge(quota, {"spec": {"hard": {"pods": "50"}}})
    eventually(lambda: user.flyte.pods.of(run, "documents"), "with room it goes on", 120)
    assert not user.flyte.engine.costs[run].get("documents", FREE).user, user.flyte.engine.costs[run]
    assert f"cancelled: {run}" in user.lehr("cancel", run)
    assert user.flyte.flyteadmin.ended(run) == "ABORTED"
    assert user.states(run)["execution"]["state"] == "cancelled"
    assert "had ended" in user.lehr("cancel", run)
    assert name_in(user.submit(out, *asked)).endswith("-2"), "the same command goes on, under a name that is free"


REFUSED = (
    (("--out", "runs/x"), "--out runs/x: a folder of this machine is in no pod. Give s3://BUCKET/PREFIX."),
    (("--image", ""), "--image: no image is named."),
    (("--image", "a b"), "--image: 'a b' is not the name of an image."),
    (("--project", "nobody"), "--project: this Flyte has no project 'nobody'. There are: lehr."),
    (("--domain", "moon"), "--domain: this Flyte has no domain 'moon'."),
    (("-n", "training"), "--namespace training: Flyte's pods run in the namespace PROJECT-DOMAIN."),
    (("--set", "compute.stages={export: {gpus: 99}}"), "compute: export asks for 99 GPUs, and no node has more than "),
    (("--set", "compute.stages={stage1: {nodes: 2}}"), "compute, for stage1: 2 nodes do not share 1 process equally."),
)


@pytest.mark.parametrize(("more", "line"), REFUSED)
def test_what_cannot_work_is_refused_before_anything_starts(user: Submitter, more: tuple[str, ...], line: str) -> None:
    before = set(user.flyte.flyteadmin.admin.runs)
    said = user.submit("s3://runs/refused", *more, code=2)
    assert line in said and len([part for part in said.splitlines() if part.startswith("error: ")]) == 1, said
    assert set(user.flyte.flyteadmin.admin.runs) == before and NAMESPACE
