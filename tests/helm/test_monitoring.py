"""Monitors, rules and dashboards: there where their types are, and what is in the folders goes out as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from lehr.monitoring.metrics import FLEET_METRICS
from tests.cluster.chart import CHART, MONITORING, render
from tests.helm.values import planted, read

cluster = pytest.mark.cluster
KINDS = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}


@cluster
def test_nothing_that_needs_a_type_is_made_without_it() -> None:
    everything = read(CHART / "ci/everything-values.yaml")
    assert not KINDS & {item["kind"] for item in render(everything)}
    assert {item["kind"] for item in render(everything, MONITORING)} >= KINDS


@cluster
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_type_alone(kind: str) -> None:
    found = {item["kind"] for item in render(read(CHART / "ci/everything-values.yaml"), [f"monitoring.coreos.com/v1/{kind}"])}
    assert KINDS & found == {kind}


@cluster
def test_by_default_replicas_are_scraped_once() -> None:
    assert KINDS & {item["kind"] for item in render({}, MONITORING)} == {"PodMonitor", "PrometheusRule"}


@cluster
def test_labels_reach_the_objects() -> None:
    labels = {"release": "prometheus"}
    values = {name: {"enabled": True, "labels": labels} for name in ("podMonitor", "serviceMonitor", "rules")}
    for item in render({"monitoring": values}, MONITORING):
        if item["kind"] in KINDS:
            assert labels.items() <= item["metadata"]["labels"].items()


@cluster
def test_files_go_out_as_they_stand(tmp_path: Path) -> None:
    """Braces of Grafana and Prometheus are no templates; one dashboard a ConfigMap, one object a file of rules."""
    chart = planted(tmp_path)
    values = {"monitoring": {"dashboards": {"labels": {"grafana_dashboard": "1"}, "annotations": {"grafana_folder": "Lehr"}}}}
    made = render(values, MONITORING, chart=chart)
    (board,) = (item for item in made if item["metadata"]["name"] == "lehr-dashboard-planted")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["metadata"]["annotations"] == {"grafana_folder": "Lehr"}
    assert json.loads(board["data"]["planted.json"]) == json.loads((chart / "files/dashboards/planted.json").read_text())
    rules = {item["metadata"]["name"]: item["spec"] for item in made if item["kind"] == "PrometheusRule"}
    assert set(rules) == {"lehr-planted", "lehr-controller"}
    assert rules["lehr-planted"] == yaml.safe_load((chart / "files/rules/planted.yaml").read_text())


@cluster
def test_empty_folders_make_nothing(tmp_path: Path) -> None:
    chart = planted(tmp_path)
    for path in (*chart.glob("files/dashboards/*"), *chart.glob("files/rules/*")):
        path.unlink()
    made = render({}, MONITORING, chart=chart)
    assert "PrometheusRule" not in {item["kind"] for item in made}
    assert not [item for item in made if "dashboard" in item["metadata"]["name"]]


def test_rules_name_metrics_that_the_controller_exports() -> None:
    known = {metric.name for metric in FLEET_METRICS}
    for path in (CHART / "files/rules").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                text = rule["expr"] + rule["annotations"]["description"]
                assert set(re.findall(r"lehr_\w+", text)) <= known, rule
                assert {"summary", "description"} <= set(rule["annotations"]) and rule["labels"]["severity"] in (
                    "critical",
                    "warning",
                )


def test_dashboards_fit_into_a_configmap() -> None:
    for path in (CHART / "files/dashboards").glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
        assert path.stat().st_size < 250_000, path
