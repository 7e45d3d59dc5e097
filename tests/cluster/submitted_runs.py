"""A cluster without Flyte for `lehr submit`: accounts as the chart makes them, an S3 server, pods as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from lehr.artifacts.artifact import MANIFEST
from lehr.infra.kube.api import Api, Object
from lehr.infra.kube.transport import connect
from tests.cluster.chart import render
from tests.cluster.conftest import TRAINING, eventually
from tests.cluster.forwarder import HOST, Forwarder, forwarder
from tests.cluster.installation import Home, home
from tests.cluster.job_pods import JobPods, secret
from tests.cluster.objects import create, make_node, namespace
from tests.storage.s3_server import KEY, SECRET, seaweed

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "cluster" / "submitted.yaml"
KINDS = ("Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole")
BUCKET, STORE, UNLABELLED = "runs", "store", "unlabelled"
IMPATIENT = "impatient"  # a Secret whose pods wait for no store
PLANTED = SECRET  # the store's own key: it must be nowhere but in its Secret
RUN_SECONDS = 600
STARTED_SECONDS = 5.0  # of processor time: `lehr submit` where everything is registered; the first pod comes with its end


@dataclass
class Place:
    """The cluster, and alice, who may submit in the training namespace. The way of the pods to the store can be cut."""

    home: Home
    pods: JobPods
    way: Forwarder
    address: str  # of the store itself
    folder: Path
    kubeconfig: Path
    admin: Api
    seconds: float = 0.0  # of processor time that the last command took

    def environment(self) -> dict[str, str]:
        """Of a user with keys of the store and a kubeconfig."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.address}
        keys |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        return {
            **os.environ,
            **keys,
            "KUBECONFIG": str(self.kubeconfig),
            "LEHR_BACKEND": "kubernetes",
            "LEHR_CACHE": str(self.folder / "cache"),
        }

    def lehr(self, *arguments: str, code: int = 0) -> str:
        """What a command prints, both streams; it must end with `code`."""
        command = [sys.executable, "-m", "lehr.cli.main", *arguments]
        said, found, self.seconds = told(command, self.environment())
        assert found == code, f"{arguments}: {found}\n{said}\n{self.home.why()}"
        return said

    def submit(self, out: str, *more: str, recipe: Path = RECIPE, code: int = 0) -> str:
        """Submit, and give the run's name; with a `code` what was said."""
        asked = ["--backend", "kubernetes", "--out", out, "--image", "lehr:test", "-n", TRAINING, "--secret", STORE]
        said = self.lehr("submit", str(recipe), *asked, *more, code=code)
        return said if code else said.split()[1]

    def states(self, run: str) -> dict[str, dict[str, Any]]:
        return {state["stage"]: state for state in json.loads(self.lehr("status", run, "-n", TRAINING, "--json"))}

    def ended(self, run: str, seconds: float = RUN_SECONDS) -> str:
        """How the driver's Job ended."""
        path = f"/apis/batch/v1/namespaces/{TRAINING}/jobs/{run}-driver"
        kinds: list[str] = []

        def over() -> bool:
            held = self.admin.get(path)["status"].get("conditions") or []
            kinds[:] = [c["type"] for c in held if c["status"] == "True" and c["type"] in ("Complete", "Failed")]
            return bool(kinds)

        try:
            eventually(over, f"{run} ended", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.home.why()}") from None
        return kinds[0]

    def objects(self, run: str) -> list[Object]:
        found = []
        for path in (f"/apis/batch/v1/namespaces/{TRAINING}/jobs", f"/api/v1/namespaces/{TRAINING}/pods"):
            found += self.admin.items(path, {"labelSelector": f"lehr.dev/run={run}"})
        return found

    def _client(self) -> Any:
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.address, region_name="us-east-1", **keys)

    def stored(self, out: str, name: str) -> str:
        key = f"{out.removeprefix(f's3://{BUCKET}/')}/{name}"
        return str(self._client().get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())

    def keys(self, out: str, prefix: str) -> list[str]:
        """What the store has of a run below `prefix`."""
        start = f"{out.removeprefix(f's3://{BUCKET}/')}/{prefix}"
        return [item["Key"] for item in self._client().list_objects_v2(Bucket=BUCKET, Prefix=start).get("Contents", [])]

    def made(self, out: str, stage: str) -> set[str]:
        """The digests of the artifacts of a stage that the store has, whatever the recipe was."""
        found = [key for key in self.keys(out, f"artifacts/{stage}-") if key.endswith(f"/{MANIFEST}")]
        where = out.removeprefix(f"s3://{BUCKET}/")
        return {json.loads(self.stored(out, key.removeprefix(f"{where}/")))["digest"] for key in found}

    def digests(self, out: str) -> dict[str, str]:
        return digests(self.stored(out, "lineage.json"))


def told(command: Sequence[str], environment: dict[str, str]) -> tuple[str, int, float]:
    """What a command prints, both streams; its exit code; and its processor time, which other work on the machine hardly
    changes. At most 240 s."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environment)
        late = threading.Timer(240, process.kill)
        late.start()
        _, status, used = os.wait4(process.pid, 0)
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return out.read().decode(errors="replace"), process.returncode, used.ru_utime + used.ru_stime


def digests(lineage: str) -> dict[str, str]:
    return {entry["stage"]: entry["digest"] for entry in json.loads(lineage)}


def local_digests(folder: Path, recipe: Path = RECIPE, overrides: Sequence[str] = ()) -> dict[str, str]:
    """Of `lehr run` of the same recipe on this machine, in `folder`."""
    command = [sys.executable, "-m", "lehr.cli.main", "run", str(recipe), "--out", str(folder), "--no-mlflow"]
    command += [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return digests((folder / "lineage.json").read_text())


@contextmanager
def place(folder: Path, kind: type[JobPods] = JobPods) -> Iterator[Place]:
    """Running; with the driver's account and rights from the chart, alice bound to `lehr-submitter`. `kind` runs the pods."""
    store = folder / "store"
    store.mkdir()
    with seaweed(store) as address, forwarder(address) as way, home(folder / "home", kind) as made:
        assert isinstance(made.containers, JobPods)
        admin = made.world.admin
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys).create_bucket(Bucket=BUCKET)
        _install(admin, f"http://{HOST}:{way.port}")
        make_node(admin, "second", "system", managed=False, gpus=0)  # for stages on two
        for node in ("system", "second"):
            made.containers.serve_logs_of(node)
        config = made.world.plane.kubeconfig("alice", "alice-token", TRAINING)
        yield Place(made, made.containers, way, address, folder, config, Api(connect(made.kubeconfig)))


def _install(admin: Api, address: str) -> None:
    values = {"training": {"driver": {"create": True}, "namespaces": [{"name": TRAINING, "keep": False}]}}
    found = [item for item in render(values) if item["metadata"].get("namespace", TRAINING) == TRAINING]
    for kind in KINDS:
        for item in found:
            if item["kind"] == kind and (kind != "Namespace" or item["metadata"]["name"] == TRAINING):
                create(admin, item)
    subject = {"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lehr-submitter"}
    admin.create("/api/v1/namespaces", namespace(UNLABELLED, managed=False))
    for name in (TRAINING, UNLABELLED):
        meta = {"name": "alice", "namespace": name}
        create(admin, {"kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": [subject]})
    sees = {**role, "name": "lehr-viewer"}
    create(admin, {"kind": "ClusterRoleBinding", "metadata": {"name": "alice"}, "roleRef": sees, "subjects": [subject]})
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": address}
    keys |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, more in ((STORE, {}), (IMPATIENT, {"AWS_MAX_ATTEMPTS": "2"})):
        admin.create(f"/api/v1/namespaces/{TRAINING}/secrets", secret(TRAINING, name, {**keys, **more}))
    account = f"/api/v1/namespaces/{TRAINING}/serviceaccounts"
    eventually(lambda: admin.get(f"{account}/default"), "accounts exist")
