"""What `lehr doctor` makes of answers of a probe, of a Flyte's settings and of an API server's version."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from lehr.infra.controller.node_commands import listed, one
from lehr.infra.doctor import flyte, preflight
from lehr.infra.doctor.cluster import POLICIES, api_server
from lehr.infra.kube.api import NODES, Api, Object
from lehr.infra.pod.probes.result import CheckFailed, hardware, inconclusive, performance
from lehr.runtime.findings import Finding, Verdict
from tests.cluster.chart import CHART

OK, WARN, FAIL, UNSEEN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNSEEN


def raising(error: CheckFailed) -> Callable[[], str]:
    def run() -> str:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "verdict", "words"),
    [
        (lambda: "synchronised", OK, "synchronised"),
        (lambda: "synchronisation unknown", OK, "unknown"),
        (lambda: "not synchronised", WARN, "nothing keeps it right"),
        (raising(performance("ClockJumps", "0.2 s in 0.2 s")), WARN, "ClockJumps"),
        (raising(performance("ClockWrong", "the clock says 1970-01-01")), FAIL, "1970-01-01"),
    ],
)
def test_clock(run: Callable[[], str], verdict: Verdict, words: str) -> None:
    found = preflight.clock(run)
    assert found.verdict is verdict and words in found.found and ("chrony" in found.remedy or verdict is OK), found


@pytest.mark.parametrize(
    ("run", "verdict", "words"),
    [
        (lambda: "80 MB/s, 9 GiB free", OK, "80 MB/s"),
        (raising(performance("DiskFull", "20 MiB free")), WARN, "DiskFull: 20 MiB free"),
        (raising(inconclusive("DiskNotWritable", "Permission denied")), FAIL, "Permission denied"),
        (raising(hardware("DiskMismatch", "read back other bytes")), FAIL, "other bytes"),
    ],
)
def test_temporary_folder(run: Callable[[], str], verdict: Verdict, words: str) -> None:
    found = preflight.temporary_folder(run)
    assert found.verdict is verdict and words in found.found and tempfile.gettempdir() in found.found
    assert found.remedy or verdict is OK


@pytest.mark.parametrize(
    ("run", "verdict", "words"),
    [
        (lambda: None, OK, "no GPU"),
        (lambda: "2 gpus, 18 links each", OK, "18 links"),
        (raising(hardware("ECCUncorrectable", "gpu 1: 3")), FAIL, "ECCUncorrectable: gpu 1: 3"),
        (raising(performance("RowRemapPending", "gpu 0")), WARN, "RowRemapPending"),
    ],
)
def test_gpu_state(run: Callable[[], str | None], verdict: Verdict, words: str) -> None:
    found = preflight.gpu_state(run)
    assert found.verdict is verdict and words in found.found and (found.remedy or verdict is OK), found


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("v1.37.2", OK), ("v1.30.0-eks-1", OK), ("v1.29.9", FAIL), ("v1.9.0", FAIL), ("v2.0.0", OK), ("", UNSEEN), ("x", UNSEEN)],
)
def test_api_servers_version(version: str, verdict: Verdict) -> None:
    found = api_server(version)
    assert found.verdict is verdict and ("1.30" in found.remedy or verdict is not FAIL), found


def test_every_policy_of_the_chart_is_looked_for() -> None:
    text = (CHART / "templates/admission/policies.yaml").read_text(encoding="utf-8")
    names = [line for line in text.splitlines() if line.startswith("  name: {{ $")]
    made = {("-controller" if "$controller" in line else "") + line.partition("}}")[2] for line in names}
    assert made == set(POLICIES)


def files() -> list[dict[str, Any]]:
    """An installed flyte-binary with the values that the chart names."""
    text = (CHART / "files/flyte/flyte-binary.yaml").read_text(encoding="utf-8")
    return [{"propeller": {}}, yaml.safe_load(text)["configuration"]["inline"]]


def looked(found: list[dict[str, Any]], templates: set[str] | None = None) -> dict[str, Finding]:
    known = {"lehr-task"} if templates is None else templates
    return {finding.check: finding for finding in (flyte.setting(wanted, found, known) for wanted in flyte.needed())}


def test_a_flyte_with_the_charts_values_has_what_is_needed() -> None:
    found = looked(files())
    assert len(found) == 6 and {finding.verdict for finding in found.values()} == {OK}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("storage.limits.maxDownloadMBs", 2, "storage.limits.maxDownloadMBs (2): a task's type"),
        ("storage.limits.maxDownloadMBs", None, "(not set)"),
        ("storage.limits.maxDownloadMBs", "many", "(many)"),
        ("propeller.node-config.max-node-retries-system-failures", 3, "(3)"),
        ("propeller.max-workflow-retries", 10, "(10)"),
        ("plugins.k8s.inject-finalizer", False, "(False)"),
        ("plugins.k8s.default-pod-template-name", "another", "(another)"),
        ("plugins.k8s.default-env-vars", [{"HOME": "/"}, {"AWS_SECRET_ACCESS_KEY": "planted"}], "holds AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_each_setting_that_is_wrong_is_named(path: str, value: object, words: str) -> None:
    wrong = files()
    at = wrong[1]
    *steps, last = path.split(".")
    for step in steps:
        at = at[step]
    at[last] = value
    found = looked(wrong)
    failed = [finding for finding in found.values() if finding.verdict is FAIL]
    assert [finding.check for finding in failed] == [f"Flyte: {last}"] and words in failed[0].found and failed[0].remedy
    assert "planted" not in str(found)


def test_the_pod_template_is_one_of_lehrs_in_the_namespace() -> None:
    check = "Flyte: default-pod-template-name"
    assert looked(files(), {"other"})[check].verdict is FAIL and "other" in looked(files(), {"other"})[check].remedy
    assert "tasks.podTemplate.create" in looked(files(), set())[check].remedy


def test_settings_of_a_strange_shape() -> None:
    found = looked([{"propeller": {}, "storage": ["limits"], "plugins": {"k8s": {"default-env-vars": {"TOKEN": "x"}}}}])
    assert found["Flyte: maxDownloadMBs"].verdict is FAIL
    assert "TOKEN" in found["Flyte: default-env-vars"].found


def test_nodes_are_shown_with_the_gpus_of_the_name_that_is_asked_for() -> None:
    """`lehr nodes --gpu-resource`."""
    node = {"metadata": {"name": "n", "labels": {}}, "status": {"capacity": {"amd.com/gpu": "8"}, "conditions": []}}

    class Nodes(Api):
        def get(self, path: str, query: Any = None) -> Object:
            return {"items": [node]} if path == NODES else node

    api = Nodes(None)  # type: ignore[arg-type]
    assert [n.cached.gpus for n in (*listed(api), one(api, "n"))] == [0, 0]
    assert [n.cached.gpus for n in (*listed(api, "", "amd.com/gpu"), one(api, "n", "amd.com/gpu"))] == [8, 8]
