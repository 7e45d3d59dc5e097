"""What an installed chart does: controllers quarantine, one takes over from another, MLflow answers, NOTES tell of Flyte."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import Object
from tests.cluster.chart import CHART
from tests.cluster.conftest import TRAINING, eventually
from tests.cluster.containers import ROOT, Container
from tests.cluster.installation import QUICK, SYSTEM, Home, home
from tests.cluster.objects import create
from tests.cluster.scenario import Scenario
from tests.helm.values import merged, read

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """With the chart installed."""
    with home(tmp_path_factory.mktemp("works")) as made:
        made.install()
        eventually(lambda: leader(made), "a leader")
        yield made


def leader(place: Home) -> Container | None:
    """The container that holds the Lease: its identity begins with the pod's name."""
    holder = str(place.lease().get("spec", {}).get("holderIdentity", ""))
    return next((c for c in place.containers.by_prefix("lehr-controller") if holder.startswith(c.name)), None)


def quarantined(place: Home, bad: tuple[int, ...]) -> None:
    """A scenario with the bad nodes `bad`, carried out by the installed controllers with their own account."""
    with Scenario(place.world, place.kubelet, bad=bad) as run:
        run.submit()
        run.wait()
        run.check()


def test_the_installed_controllers_quarantine(place: Home) -> None:
    """Two replicas of the chart, as its account, behind its policies: the bad node is cordoned, the work runs elsewhere."""
    quarantined(place, (0,))
    made = leader(place)
    assert made is not None and '"kind":"cordon"' in made.log, place.why()
    uid = Path(f"/proc/{_child(made)}/status").read_text().split("Uid:")[1].split()[0]
    assert uid == "1000" or os.geteuid() != 0
    assert not place.containers.errors and not place.kubelet.errors


def _child(container: Container) -> int:
    """The container's process itself; `unshare` becomes it."""
    assert container.process is not None
    return container.process.pid


def test_the_other_replica_takes_over(place: Home) -> None:
    """The leader is killed, not asked: nothing is given back. The other one cordons; the first comes back and follows."""
    first = leader(place)
    assert first is not None and first.process is not None
    first.process.send_signal(signal.SIGKILL)
    quarantined(place, (1,))
    second = leader(place)
    assert second is not None and (second.name != first.name or first.restarts == 1)
    eventually(lambda: first.restarts == 1 and first.ready, "the killed one runs again")
    place.helm("test", "lehr", "--timeout", "120s")


def test_it_stops_politely(place: Home) -> None:
    """A deletion ends a replica well within its grace period, with the Lease given back."""
    made = leader(place)
    assert made is not None and made.process is not None
    began = time.monotonic()
    place.kubectl("delete", "pod", "-n", SYSTEM, made.name, "--wait=true")
    assert time.monotonic() - began < 15 and made.process.poll() == 0, made.log
    eventually(lambda: leader(place) is not None and len(place.containers.by_prefix("lehr-controller")) == 2, "two again")


def test_an_upgrade_keeps_what_the_controller_wrote(place: Home) -> None:
    """The Lease's holder, and breakers that were closed by hand, are not Helm's."""
    note = {"metadata": {"annotations": {NAMES.reset_annotation: "{}"}}}
    place.world.admin.merge(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lehr-controller", note)
    place.upgrade(merged(QUICK, {"monitoring": {"podMonitor": {"interval": "60s"}}}))
    lease = place.lease()
    assert lease["metadata"]["annotations"][NAMES.reset_annotation] == "{}" and lease["spec"]["holderIdentity"]


def _volume(name: str) -> Object:
    spec = {"capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": f"/nowhere/{name}"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {**spec, "storageClassName": "test"},
    }


def test_mlflow_answers_to_its_name(place: Home) -> None:
    """With a volume, under the level `restricted`; a double of the server, as the chart starts it, asked by `helm test`."""
    program = place.containers.programs / "mlflow"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/cluster/mlflow_double.py "$@"\n')
    program.chmod(0o755)
    place.kubectl("create", "-f", "-", text=yaml.safe_dump(_volume("mlflow")))
    mlflow = {"enabled": True, "image": {"repository": "mlflow"}, "persistence": {"storageClass": "test", "keep": False}}
    done = place.upgrade(merged(QUICK, {"mlflow": mlflow}))
    assert "http://lehr-mlflow.lehr-system.svc:5000" in done.stdout
    place.helm("test", "lehr", "--timeout", "120s")
    assert "answers" in place.containers.logs["lehr-test-mlflow"]
    template = place.world.admin.get(f"/api/v1/namespaces/{TRAINING}/podtemplates/lehr-task")["template"]
    assert {"name": "MLFLOW_TRACKING_URI", "value": "http://lehr-mlflow.lehr-system.svc:5000"} in template["spec"][
        "containers"
    ][0]["env"]
    place.upgrade()


class _Receiver(BaseHTTPRequestHandler):
    told: ClassVar[list[tuple[str, str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.append((self.path, body["kind"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def test_the_webhooks_address_is_nowhere_but_in_its_secret(place: Home) -> None:
    """The receiver is told, and its token is in no other object, no release and no log."""
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    token = "planted-" + "4c61b2"
    url = f"http://127.0.0.1:{server.server_address[1]}/{token}"
    try:
        place.kubectl("create", "secret", "generic", "hook", "-n", SYSTEM, f"--from-literal=url={url}")
        place.upgrade(merged(QUICK, {"controller": {"webhook": {"existingSecret": "hook"}}}))
        eventually(lambda: leader(place), "a leader")
        quarantined(place, (0,))
        eventually(lambda: (f"/{token}", "cordon") in _Receiver.told, "the receiver was told")
        types = [
            t for t in place.kubectl("api-resources", "--verbs=list", "-o", "name").split() if t not in ("secrets", "events")
        ]
        seen = [place.kubectl("get", ",".join(types), "-A", "-o", "yaml"), place.helm("get", "all", "lehr").stdout]
        seen += [c.log for c in place.containers.running.values()]
        assert not [text for text in seen if token in text]
    finally:
        server.shutdown()
        server.server_close()
    place.upgrade()


def _flyte(files: dict[str, Object]) -> Object:
    data = {name: yaml.safe_dump(content) for name, content in files.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flyte-config", "namespace": "flyte"}, "data": data}


LACKING = (
    "storage.limits.maxDownloadMBs (not set)",
    "max-node-retries-system-failures (3)",
    "max-workflow-retries (not set)",
    "inject-finalizer (not set)",
    "default-pod-template-name (not set)",
    "default-env-vars holds FLYTE_AWS_SECRET_ACCESS_KEY",
)


def test_notes_tell_what_flyte_lacks(place: Home) -> None:
    core = {"propeller": {"metadata-prefix": "metadata", "node-config": {"max-node-retries-system-failures": 3}}}
    plugins = {"plugins": {"k8s": {"default-env-vars": [{"FLYTE_AWS_SECRET_ACCESS_KEY": "x"}]}}}
    wanted = read(CHART / "files/flyte/flyte-binary.yaml")["configuration"]["inline"]
    create(place.world.admin, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flyte"}})
    assert "No Flyte was found in the ConfigMaps of the namespace flyte" in place.upgrade().stdout
    create(place.world.admin, _flyte({"000-core.yaml": core, "001-plugins.yaml": plugins}))
    notes = place.upgrade().stdout
    for said in LACKING:
        assert said in notes, notes
    path = "/api/v1/namespaces/flyte/configmaps/flyte-config"
    place.world.admin.merge(
        path, _flyte({"000-core.yaml": {"propeller": {}}, "001-plugins.yaml": {}, "100-inline-config.yaml": wanted})
    )
    assert "Flyte in flyte has the settings that tasks need" in place.upgrade().stdout


def test_notes_know_the_files_of_flyte_core(place: Home) -> None:
    """Its chart writes each section of its values into a file of its own: one setting is left out here, and named."""
    values = read(CHART / "files/flyte/flyte-core.yaml")
    sections = values["configmap"]
    sections["k8s"]["plugins"]["k8s"].pop("inject-finalizer")
    files = {f"{name}.yaml": content for name, content in sections.items()}
    files["storage.yaml"] = {"storage": {"type": "s3", "limits": values["storage"]["limits"]}}
    path = "/api/v1/namespaces/flyte/configmaps/flyte-config"
    world = place.world.admin
    world.delete(path, world.get(path)["metadata"]["uid"])
    create(world, _flyte(files))
    notes = place.upgrade().stdout
    assert "inject-finalizer (not set)" in notes and notes.count("(not set)") == 1, notes


def test_notes_tell_what_a_namespace_lacks(place: Home) -> None:
    create(place.world.admin, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lehr-production"}})
    values = merged(
        QUICK, {"training": {"namespaces": [*QUICK["training"]["namespaces"], {"name": "lehr-production", "create": False}]}}
    )
    notes = place.upgrade(values).stdout
    assert "kubectl label namespace lehr-production lehr.dev/managed=true" in notes
    own = "kubectl label namespace lehr-system pod-security.kubernetes.io/enforce=restricted"
    assert own not in notes, "the release's namespace has the label"
    place.kubectl("label", "namespace", "lehr-production", "lehr.dev/managed=true")
    place.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce-")
    notes = place.upgrade(values).stdout
    assert "lehr.dev/managed=true    # else" not in notes and own in notes
    place.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted")
    place.upgrade()
