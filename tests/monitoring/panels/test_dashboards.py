"""Grafana's files: what the boards say, and what Grafana needs of them. Grafana itself is not here (docs/limits.md): its SDK
writes the files, and reads them back."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from lehr.monitoring.metrics import FLEET_METRICS, METRICS, RECORDED, SERVING_METRICS
from lehr.monitoring.panels.boards import BOARDS
from lehr.monitoring.panels.reference import page
from tests.graph.source import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Prefer using dashboardv2")  # the schema that all of Grafana 11 to 13 reads
FILES = {path.stem: path for path in (ROOT / "helm/lehr/files/dashboards").glob("*.json")}
KNOWN = {
    metric.name + suffix: metric
    for metric in (*METRICS, *FLEET_METRICS, *RECORDED, *SERVING_METRICS)
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
TEXT_SIZE = 250_000  # of a ConfigMap that `kubectl apply` takes: what it applied last must fit into an annotation
COLOURS = {"green", "orange", "red", "blue", "text"}  # of Grafana's palette: each theme has its own shade
VARIABLES = re.compile(r"\$\{?(\w+)")


def read(name: str) -> dict[str, Any]:
    return json.loads(FILES[name].read_text(encoding="utf-8"))


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in read(name)["panels"] if panel["type"] != "row"]


def queries(name: str) -> list[str]:
    found = read(name)
    return [target["expr"] for panel in panels(name) for target in panel["targets"]] + [
        mark["expr"] for mark in found["annotations"].get("list", [])
    ]


def test_the_files_are_what_the_boards_say(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk, of the extra `dev`, writes Grafana's files")
    from lehr.monitoring.dashboards.__main__ import main

    assert main(["--check"]) == 0, f"{capsys.readouterr().out}\nrun `make dashboards`"


def test_the_page_of_metrics_is_what_the_list_says() -> None:
    assert (ROOT / "docs/metrics.md").read_text(encoding="utf-8") == page(BOARDS)


@pytest.mark.parametrize("name", FILES)
def test_grafanas_own_types_read_all_that_is_written(name: str) -> None:
    """A key that they do not know, or a value of another type, does not come back."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk, of the extra `dev`, has Grafana's types")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    found = read(name)
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(found)))
    assert _bare(again) == _bare(found)


def _bare(data: Any) -> Any:
    """Without what the types add by default where the file says nothing."""
    if isinstance(data, list):
        return [_bare(one) for one in data]
    if not isinstance(data, dict):
        return data
    return {key: _bare(value) for key, value in data.items() if key != "placement" or value != "inControlsMenu"}


def test_there_is_one_file_a_board_and_each_fits_into_a_configmap() -> None:
    assert FILES.keys() == {board.uid for board in BOARDS}
    for name, path in FILES.items():
        assert read(name)["uid"] == name and path.stat().st_size < TEXT_SIZE


@pytest.mark.parametrize("name", FILES)
def test_panels_lie_beside_each_other(name: str) -> None:
    found = read(name)
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids) and 0 not in ids
    boxes = [panel["gridPos"] for panel in found["panels"]]
    for a, b in itertools.combinations(boxes, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, (a, b)
    for y in {box["y"] for box in boxes}:
        assert sum(box["w"] for box in boxes if box["y"] == y) == 24


@pytest.mark.parametrize("name", FILES)
def test_every_panel_says_what_it_is(name: str) -> None:
    for panel in panels(name):
        text, defaults = panel["description"], panel["fieldConfig"]["defaults"]
        assert "Healthy: " in text and "If not: " in text and panel["title"] and defaults["unit"], panel["title"]
        assert {step["color"] for step in defaults["thresholds"]["steps"]} <= COLOURS
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["type"] != "timeseries" or panel["options"]["legend"]["showLegend"]
        width = panel["gridPos"]["w"]
        assert width >= 4 and (panel["type"] != "timeseries" or width >= 6), f"{panel['title']}: too narrow at 1280 pixels"


@pytest.mark.parametrize("name", FILES)
def test_queries_ask_for_what_is_there(name: str) -> None:
    found = read(name)
    variables = {one["name"] for one in found["templating"]["list"]} | {"__rate_interval", "__range"}
    for text in queries(name):
        names = set(re.findall(r"\b(?:lehr[_:]\w+)", text))
        assert names and names <= KNOWN.keys(), names - KNOWN.keys()
        assert set(VARIABLES.findall(text)) <= variables, text
        for metric in names:
            if KNOWN[metric].kind != "gauge":
                grows = rf"(?:rate|increase|last_over_time)\({metric}(?:\{{[^}}]*\}})?\["
                assert len(re.findall(grows, text)) == len(re.findall(rf"\b{metric}\b", text)), text
        assert not re.search(r"\brate\([^\[]*\[\d+s\]", text), "a window shorter than two scrapes"


@pytest.mark.parametrize("name", FILES)
def test_the_board_can_be_used(name: str) -> None:
    found = read(name)
    assert found["graphTooltip"] == 1 and found["time"]["to"] == "now" and found["tags"] == ["lehr"]
    names = [one["name"] for one in found["templating"]["list"]]
    assert names[:2] == ["datasource", "cluster"]
    used = set(VARIABLES.findall(" ".join(queries(name)))) | {"datasource"}
    assert set(names) <= used, "a variable that limits nothing"
    assert {"MLflow", "Flyte", "Logs"} <= {link["title"] for link in found["links"]}
    assert all("placement" not in link for link in found["links"]), "hidden in a menu"


def test_the_lint_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check, on a file with one thing wrong."""
    wrong = {
        test_queries_ask_for_what_is_there: [
            ('"expr": "max', '"expr": "lehr_renamed + max'),
            ("rate(lehr_train_tokens_total", "(lehr_train_tokens_total"),
            ("$stage", "$stages"),
        ],
        test_grafanas_own_types_read_all_that_is_written: [('"legendFormat"', '"legendText"'), ('"gridPos"', '"grid"')],
        test_panels_lie_beside_each_other: [('"x": 4', '"x": 3'), ('"id": 3,', '"id": 2,')],
        test_every_panel_says_what_it_is: [
            ("Healthy: ", ""),
            ('"color": "red"', '"color": "#fff"'),
            ('"showLegend": true', '"showLegend": false'),
        ],
        test_the_board_can_be_used: [('"graphTooltip": 1', '"graphTooltip": 0'), ('"title": "MLflow"', '"title": "x"')],
    }
    text = FILES["lehr-training"].read_text(encoding="utf-8")
    for check, changes in wrong.items():
        check("lehr-training")
        for before, after in changes:
            assert before in text, before
            path = tmp_path / "lehr-training.json"
            path.write_text(text.replace(before, after), encoding="utf-8")
            with monkeypatch.context() as patch:
                patch.setitem(FILES, "lehr-training", path)
                with pytest.raises(AssertionError):
                    check("lehr-training")
