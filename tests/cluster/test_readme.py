"""README's cluster section, followed line by line by a shell on a cluster of its own: the chart's pods and the runs' pods are
processes, Flyte is its own engine behind the double of flyteadmin, the store a real S3 server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from tests.cluster.admin_double import AdminDouble, admin_double
from tests.cluster.conftest import eventually
from tests.cluster.containers import Container, Containers
from tests.cluster.engine import FLYTE_BUCKET, NAMESPACE, engine
from tests.cluster.engine_pods import EnginePods
from tests.cluster.installation import SYSTEM, Home, home, settled
from tests.cluster.objects import make_node, namespace
from tests.cluster.provide import find
from tests.storage.s3_server import KEY, SECRET, seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
OF_THE_CHART = ("controller", "test")
BUCKET = "bucket"


class AllPods(EnginePods):
    """The pods of the chart, which are started again and have probes, beside those of runs."""

    def _run(self, container: Container) -> None:
        if _component(container) in OF_THE_CHART:
            (container.folder / "messages").mkdir(parents=True)
            (container.folder / "messages").chmod(0o777)
            Containers._run(self, container)
        else:
            super()._run(container)

    def _start(self, container: Container, command: list[str]) -> subprocess.Popen[bytes]:
        if _component(container) in OF_THE_CHART:
            return Containers._start(self, container, command)
        return super()._start(container, command)


def _component(container: Container) -> str:
    return str(container.pod["metadata"]["labels"].get("app.kubernetes.io/component", ""))


@dataclass
class Reader:
    """Somebody at a terminal, who replaces the words in capitals. `run` is what the last `lehr submit` named."""

    home: Home
    pods: AllPods
    flyteadmin: AdminDouble
    environment: dict[str, str]
    words: dict[str, str]
    run: str = ""
    said: dict[str, str] = field(default_factory=dict)

    def follow(self, block: str) -> None:
        """Every line of README's block of this name."""
        page = (ROOT / "README.md").read_text(encoding="utf-8")
        text = page.partition(f"<!-- {block}: followed by tests/cluster/test_readme.py -->\n```\n")[2].partition("```")[0]
        assert text, block
        for line in text.splitlines():
            self._follow(line)

    def _follow(self, line: str) -> None:
        for word, real in {**self.words, "RUN": self.run}.items():
            line = re.sub(rf"(?<![A-Z_-]){word}(?![A-Z_-])", real, line)
        if line.startswith("export "):
            line = f"{line.partition('#')[0]}; env -0"
        if line.startswith("lehr logs"):
            eventually(lambda: self._shell(f"{line} >/dev/null 2>&1").returncode == 0, "the stage has a log", 240)
        done = self._shell(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}\n{self.home.why()}\n{self.flyteadmin.answers.errors}"
        if line.startswith("export "):
            self.environment = dict(part.split("=", 1) for part in done.stdout.split("\0") if "=" in part)
        self.run = started[1] if (started := re.search(r"^started: (\S+)", done.stdout, re.M)) else self.run
        self.said[" ".join(line.split()[:2])] = done.stdout + done.stderr

    def _shell(self, line: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", line]
        return subprocess.run(shell, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """With an empty cluster, a Flyte, a store with an empty bucket, and a recipe and its documents in a folder."""
    (tmp_path / "store").mkdir()
    with seaweed(tmp_path / "store") as address, home(tmp_path / "home", AllPods) as made:
        assert isinstance(made.containers, AllPods)
        made.kubectl("delete", "namespace", SYSTEM)
        made.world.admin.create("/api/v1/namespaces", namespace(NAMESPACE, managed=False))  # Flyte makes it, of its project
        make_node(made.world.admin, "gpu-1", "gpu", managed=False)
        for node in ("system", "gpu-1"):
            made.containers.serve_logs_of(node)
        for bucket in (BUCKET, FLYTE_BUCKET):
            _client(address).create_bucket(Bucket=bucket)
        settled(made)
        with (
            admin_double(made.world.admin, address, FLYTE_BUCKET) as flyteadmin,
            engine(made.world.admin, made.kubeconfig, address, tmp_path / "engine", flyteadmin.address),
        ):
            recipe = _recipe(tmp_path)
            words = {"REGISTRY": "example.org", "VERSION": "1", "GPU-NODE": "gpu-1", "POOL": "gpu", "BUCKET": BUCKET}
            words |= {"ID": KEY, "KEY": f"{SECRET} --from-literal=AWS_ENDPOINT_URL={address}", "RESEARCHERS": "r"}
            words |= {"mine/recipe.yaml": str(recipe)}
            yield Reader(made, made.containers, flyteadmin, _environment(tmp_path, made, flyteadmin), words)


def _client(address: str) -> Any:
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def _recipe(folder: Path) -> Path:
    """A small one, with documents that are on this machine alone."""
    made = folder / "mine" / "recipe.yaml"
    made.parent.mkdir()
    shutil.copy(ROOT / "recipes" / "data" / "bible.jsonl.gz", made.with_name("texts.jsonl.gz"))
    made.write_text(f"inherits: {ROOT}/tests/cluster/admin.yaml\nname: mine\n"
                    "data: {sources: {bible: {path: texts.jsonl.gz}}}\n")  # fmt: skip
    return made


def _environment(folder: Path, made: Home, flyteadmin: AdminDouble) -> dict[str, str]:
    """A user's, with helm, kubectl, lehr and pyflyte on the path."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("helm", "kubectl"):
        (commands / name).symlink_to(str(find(name)))
    for name, module in (("lehr", "lehr.cli.main"), ("pyflyte", "flytekit.clis.sdk_in_container.pyflyte")):
        call = f"import sys; sys.argv[0] = '{name}'; from {module} import main; main()"
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -c "{call}" "$@"\n')
        (commands / name).chmod(0o755)
    own = {"PATH": f"{commands}:{os.environ['PATH']}", "KUBECONFIG": str(made.kubeconfig), "PYTHONPATH": str(ROOT)}
    return {**flyteadmin.environment(), **own, "LEHR_CACHE": str(folder / "cache"), "TMPDIR": str(folder), "BROWSER": "true"}


def test_the_section_is_followed(reader: Reader) -> None:
    reader.follow("operator")
    assert "GPU nodes             ok" in reader.said["lehr doctor"], reader.said["lehr doctor"]
    reader.follow("flyte")
    found = reader._shell("lehr doctor --cluster -n lehr-development").stdout
    assert "lehr-development is one for training" in found, found
    reader.follow("submit")
    assert "execution" in reader.said["lehr status"]
    assert "stage1" in reader.said["lehr logs"] and "/executions/mine-" in reader.said["lehr open"]
    (plain,) = re.findall(r"/executions/(\S+)", reader.said["pyflyte run"])
    reader.run = plain
    eventually(lambda: reader.pods.of(plain, "documents"), "the plain run's first stage has a pod", 240)
    reader._follow("lehr cancel RUN")
    reader.follow("jobs")
    reader._follow("lehr logs RUN documents -n training")
    reader._follow("lehr cancel RUN -n training")
    reader.follow("end")
    assert not reader.home.world.admin.items(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments")
