"""`compute: spares` on a real API server, scheduler and Job controller, with the real controller of the fleet: a machine breaks
while the job trains, and a spare one takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.artifacts.folder_store import LocalStore
from lehr.config import load_recipe
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.jobs.submission import INDEX
from lehr.infra.kube.api import NODES
from lehr.infra.kube.transport import connect
from lehr.pipeline.attempt import StageContext
from tests.cluster.chart import KINDS, render
from tests.cluster.conftest import TRAINING, eventually
from tests.cluster.engine_place import controller_config
from tests.cluster.job_pods import JobPod, JobPods
from tests.cluster.kubelet import bad_verdict
from tests.cluster.objects import create, make_node
from tests.cluster.scenario import BASE, Life
from tests.cluster.submitted_runs import RECIPE, Place, place
from tests.staging import made_of

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]
OUT, STAGE = "s3://runs/spares", "stage1"
SETTINGS = ("parallel.layout=fsdp", "compute.stages={stage1: {nodes: 2, spares: 1}}", "stage1.tokens=49_152")
FASTER = ("watch.copy_steps=3", "stage1.checkpoint_steps=1000")  # nothing of the weights


class BreakingPods(JobPods):
    """Every preflight is taken as passed, until `broken` names a node: of pods there it says that the machine is bad."""

    broken = ""

    def _init(self, container: JobPod) -> int:
        name = container.spec["name"]
        if not self.broken or container.pod["spec"].get("nodeName") != self.broken:
            return self._ended(container, 0)
        if name == NAMES.gate_container:
            return self._one(container)
        message = encode(bad_verdict()) if name == NAMES.preflight_container else ""
        shared = container.folder / "volumes" / "lehr"
        shared.mkdir(parents=True, exist_ok=True)
        (shared / "verdict.json").write_text(message)
        return self._ended(container, 0, message)


def test_a_spare_takes_the_place_of_a_machine_that_breaks_and_is_quarantined(tmp_path: Path) -> None:
    """There is no other machine, and others get those that become free: the pod in the lost one's place never finds one, and
    the stage does not wait for it."""
    with place(tmp_path, BreakingPods) as there:
        _fleet(there)
        life = Life(connect(controller_config(there.home)), Settings.checked({**BASE, "namespaces": [TRAINING]}))
        try:
            _break_one(there)
        finally:
            life.stop()
        kept = there.made(OUT, STAGE)
    context, recipe = StageContext(LocalStore(tmp_path / "run"), fetch=Path), load_recipe(RECIPE, [*SETTINGS])
    local = made_of(recipe, ["documents", "tokenizer", "shards", STAGE], context)[STAGE]
    assert kept == {local.manifest.digest}, "the weights of a run that lost nothing"


def _fleet(there: Place) -> None:
    """Three machines of the fleet, and the controller with the chart's rights over them."""
    values = {"training": {"driver": {"create": True}, "namespaces": [{"name": TRAINING, "create": False}]}}
    found = render(values)
    for kind in KINDS:
        for item in (item for item in found if item["kind"] == kind):
            create(there.admin, item)
    there.admin.merge(f"/api/v1/namespaces/{TRAINING}", {"metadata": {"labels": {NAMES.managed_label: "true"}}})
    for node in ("system", "second"):
        there.admin.merge(f"{NODES}/{node}", {"metadata": {"labels": {NAMES.managed_label: "true"}}})
    make_node(there.admin, "third", "system", gpus=0)
    there.pods.serve_logs_of("third")


def _break_one(there: Place) -> None:
    given = ("--parallel", "1", *(word for each in (*SETTINGS, *FASTER) for word in ("--set", each)))
    run = there.submit(OUT, *given)
    eventually(lambda: len(there.pods.of_stage(STAGE)) == 3, "three pods are there", 240)
    pods = {pod.pod["metadata"]["labels"][INDEX]: pod for pod in there.pods.of_stage(STAGE)}
    machines = {index: str(pod.pod["spec"]["nodeName"]) for index, pod in pods.items()}
    assert len(set(machines.values())) == 3, machines
    eventually(lambda: len(list(pods["0"].folder.rglob("lehr-copies/*/*.json"))) >= 4, "the training has copied itself", 240)
    assert isinstance(there.pods, BreakingPods)
    there.pods.broken = machines["1"]
    pods["1"].kill()
    eventually(lambda: there.admin.get(f"{NODES}/{machines['1']}")["spec"].get("unschedulable"), "it is cordoned", 120)
    eventually(lambda: "is from copies in memory" in _said(pods["0"]), "it goes on with the spare", 120)
    there.home.kubectl("cordon", *machines.values())
    eventually(lambda: "stage1: finished" in _driver(there), "the stage has finished", 300)
    log = _driver(there)
    assert "finished after 0 retries of the user's and 0 of the system's, 2 pods replaced" in log, log
    assert "going on at step" in _said(pods["0"]) and pods["2"].ended["primary"]["exitCode"] in (0, 143), _said(pods["2"])
    assert len(there.pods.of_stage(STAGE)) == 4, "three, and one that its node's gate held; another had no node"
    assert there.states(run)[STAGE]["state"] == "finished"
    node = there.admin.get(f"{NODES}/{machines['1']}")
    assert node["metadata"]["labels"][NAMES.state_label] != "healthy" and node["spec"]["unschedulable"] is True
    there.lehr("cancel", run, "-n", TRAINING)


def _driver(there: Place) -> str:
    return _said(there.pods.of_stage("driver")[-1])


def _said(pod: JobPod) -> str:
    return pod.log_path.read_text(errors="replace") if pod.log_path.exists() else ""
