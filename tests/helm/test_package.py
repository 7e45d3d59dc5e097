"""Linted, the same under two major versions of Helm, packaged to the same bytes twice, and valid for three Kubernetes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.chart import CHART, MONITORING, helm, render, run, template
from tests.helm.values import read

pytestmark = pytest.mark.cluster
CASES = [None, *sorted((CHART / "ci").glob("*-values.yaml"))]
VERSIONS = ("1.30.0", "1.34.0", "1.37.0")  # the oldest that the chart takes, one between, the newest


def _name(case: Path | None) -> str:
    return case.name if case else "default"


@pytest.mark.parametrize("name", ["helm", "helm-3"])
@pytest.mark.parametrize("case", CASES, ids=_name)
def test_lint(case: Path | None, name: str) -> None:
    done = run("lint", "--strict", str(CHART), values=read(case) if case else {}, name=name)
    assert done.returncode == 0 and "[WARNING]" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_two_versions_of_helm_render_the_same(case: Path | None) -> None:
    given = read(case) if case else {}
    four, three = (re.sub(r"\n{2,}", "\n", template(given, MONITORING, name)) for name in ("helm", "helm-3"))
    assert four == three


def test_no_line_ends_in_a_blank() -> None:
    for case in CASES:
        lines = template(read(case) if case else {}, MONITORING).splitlines()
        assert not [line for line in lines if line != line.rstrip()]


def test_a_package_is_the_same_each_time(tmp_path: Path) -> None:
    """With Helm 4: Helm 3 packages with the time of the call, whatever SOURCE_DATE_EPOCH says (seen with 3.17.2)."""
    sums = set()
    copy = tmp_path / "elsewhere" / "lehr"
    shutil.copytree(CHART, copy, copy_function=shutil.copyfile)  # with times of its own
    for folder, chart in (("a", CHART), ("b", copy)):
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1764547200"}
        command = [helm(), "package", str(chart), "-d", str(tmp_path / folder)]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        (package,) = (tmp_path / folder).glob("*.tgz")
        sums.add(hashlib.sha256(package.read_bytes()).hexdigest())
        time.sleep(1.1)  # times in archives are whole seconds
    assert len(sums) == 1
    with tarfile.open(package) as archive:
        files = set(archive.getnames())
    assert {"lehr/README.md", "lehr/values.schema.json", "lehr/files/rules/fleet.yaml"} <= files
    assert not [name for name in files if "/ci/" in name]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=_name)
def test_objects_are_valid_for_kubernetes(case: Path | None, version: str) -> None:
    """Strict: a key that Kubernetes does not know fails."""
    import kubernetes_validate

    for item in render(read(case) if case else {}):
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize(("path", "value"), [("replicas", "2"), ("replicsa", 2)])
def test_that_check_catches_a_mistake(path: str, value: Any) -> None:
    import kubernetes_validate

    (controller,) = (item for item in render() if item["kind"] == "Deployment")
    controller["spec"][path] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(controller, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("version", ["v1.29.9", "v1.30.0"])
def test_a_kubernetes_without_admission_policies_is_refused(version: str) -> None:
    done = run("template", "lehr", str(CHART), "--kube-version", version)
    assert (done.returncode == 0) == (version == "v1.30.0"), done.stderr
    assert done.returncode == 0 or "kubeVersion" in done.stderr


def test_no_object_is_larger_than_its_annotation_may_be() -> None:
    """`kubectl apply` writes an object into an annotation, of 262,144 bytes at most."""
    for item in render(read(CHART / "ci/everything-values.yaml"), MONITORING):
        assert len(json.dumps(item)) < 250_000
