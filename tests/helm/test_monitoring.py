"""Monitors, rules and dashboards: there where their types are, and what is in the folders goes out as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from lehr.infra.fleet.policy import NAMES
from lehr.infra.pod.pod_template import METRICS_PORT_NAME
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
    values = {
        name: {"enabled": True, "labels": labels} for name in ("podMonitor", "trainingPodMonitor", "serviceMonitor", "rules")
    }
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
    assert set(rules) == {"lehr-planted", "lehr-fleet", "lehr-gpu", "lehr-runs", "lehr-serving"}
    assert rules["lehr-planted"] == yaml.safe_load((chart / "files/rules/planted.yaml").read_text())


@cluster
def test_links_of_boards_lead_where_the_values_say() -> None:
    def links(values: dict[str, object]) -> set[str]:
        made = [item for item in render({"monitoring": values}) if "-dashboard-" in item["metadata"]["name"]]
        assert len(made) == 8
        boards = [json.loads(text) for item in made for text in item["data"].values()]
        return {link["url"] for board in boards for link in board["links"] if link["type"] == "link"}

    assert all(re.match(r"https://(mlflow|flyte|logs|runbooks)\.invalid/", url) for url in links({}))
    urls = {
        "mlflow": "https://mlflow.example.org/",
        "flyte": "https://flyte.example.org",
        "logs": "https://logs.example.org/d/x",
    }
    found = links({"dashboards": {"urls": urls}, "rules": {"runbookBaseUrl": "https://example.org/lehr"}})
    assert not [url for url in found if ".invalid" in url]
    named = {"https://mlflow.example.org/#/experiments", "https://example.org/lehr/docs/runbooks/LehrStalled.md"}
    assert named <= found and "https://logs.example.org/d/x/" in found


@cluster
def test_empty_folders_make_nothing(tmp_path: Path) -> None:
    chart = planted(tmp_path)
    for path in (*chart.glob("files/dashboards/*"), *chart.glob("files/rules/*.yaml")):
        path.unlink()
    made = render({}, MONITORING, chart=chart)
    assert "PrometheusRule" not in {item["kind"] for item in made}
    assert not [item for item in made if "dashboard" in item["metadata"]["name"]]


@cluster
def test_runbooks_have_the_base_that_the_values_name() -> None:
    def runbooks(base: str) -> set[str]:
        made = render({"monitoring": {"rules": {"runbookBaseUrl": base}}}, MONITORING)
        groups = [group for item in made if item["kind"] == "PrometheusRule" for group in item["spec"]["groups"]]
        return {rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule}

    bare = runbooks("")
    assert len(bare) > 15 and all((CHART.parents[1] / path).is_file() for path in bare)
    assert runbooks("https://example.org/lehr/") == {f"https://example.org/lehr/{path}" for path in bare}


@cluster
def test_megatrons_names_are_there_if_they_are_asked_for() -> None:
    def names(asked: bool) -> set[str]:
        made = render({"monitoring": {"rules": {"megatronNames": asked}}}, MONITORING)
        return {item["metadata"]["name"] for item in made if item["kind"] == "PrometheusRule"}

    assert names(True) - names(False) == {"lehr-megatron"}


@cluster
def test_pods_of_runs_are_scraped_where_they_run_and_let_prometheus_in_at_that_port_alone() -> None:
    namespaces = [{"name": name, "create": False} for name in ("lehr-development", "training")]
    made = render({"training": {"namespaces": namespaces}}, MONITORING)
    (monitor,) = (item["spec"] for item in made if item["metadata"]["name"] == "lehr-training" and item["kind"] == "PodMonitor")
    assert monitor["namespaceSelector"] == {"matchNames": ["lehr-development", "training"]}
    assert monitor["selector"] == {"matchExpressions": [{"key": NAMES.run_label, "operator": "Exists"}]}
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == METRICS_PORT_NAME and "honorLabels" not in endpoint
    policies = [i for i in made if i["kind"] == "NetworkPolicy" and i["metadata"]["name"] == "lehr-training"]
    assert len(policies) == 2
    for policy in policies:
        (rule,) = (rule for rule in policy["spec"]["ingress"] if "namespaceSelector" in rule["from"][0])
        assert rule["ports"] == [{"protocol": "TCP", "port": METRICS_PORT_NAME}]


@cluster
def test_servers_of_models_are_scraped_with_the_token_of_their_own_namespace() -> None:
    """A namespace that is not named gets no token, and none is named by default."""
    values = {"monitoring": {"servingPodMonitor": {"namespaces": ["chat", "training"]}}}
    made = render(values, MONITORING)
    found = [item for item in made if item["kind"] == "PodMonitor" and item["metadata"]["name"] == "lehr-serve"]
    assert [item["metadata"]["namespace"] for item in found] == ["chat", "training"]
    for item in found:
        assert "namespaceSelector" not in item["spec"], "it looks at its own namespace"
        (endpoint,) = item["spec"]["podMetricsEndpoints"]
        assert endpoint["authorization"] == {"credentials": {"name": "lehr-serve", "key": "token"}}
    (policy,) = (i["spec"] for i in made if i["kind"] == "NetworkPolicy" and i["metadata"]["name"] == "lehr-training")
    assert [rule["ports"][0]["port"] for rule in policy["ingress"] if "ports" in rule] == [METRICS_PORT_NAME, "lehr-serve"]
    values["monitoring"]["servingPodMonitor"]["existingSecret"] = ""
    ends = [i["spec"]["podMetricsEndpoints"][0] for i in render(values, MONITORING) if i["metadata"]["name"] == "lehr-serve"]
    assert len(ends) == 2 and not [end for end in ends if "authorization" in end]
    assert not [item for item in render({}, MONITORING) if item["metadata"]["name"] == "lehr-serve"]


@cluster
def test_without_training_namespaces_nothing_of_theirs_is_scraped() -> None:
    made = render({"training": {"namespaces": []}}, MONITORING)
    assert [item["metadata"]["name"] for item in made if item["kind"] == "PodMonitor"] == ["lehr-controller"]


def test_dashboards_fit_into_a_configmap() -> None:
    for path in (CHART / "files/dashboards").glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
        assert path.stat().st_size < 250_000, path
