"""Schema and README of the chart are what its values say; needs no helm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helm import generate
from lehr import __version__
from lehr.infra.controller.settings import Settings
from lehr.infra.doctor.flyte import setting
from lehr.infra.fleet.policy import Policy
from lehr.runtime.findings import Verdict
from tests.cluster.chart import CHART
from tests.helm.values import leaves, read, schema, shown


def test_schema_and_readme_are_what_the_values_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, f"{capsys.readouterr().out}\nrun `make chart`"


def test_a_changed_value_changes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: with another description or default it says which files would change."""
    before = generate.files()
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    monkeypatch.setattr(generate, "CHART", tmp_path)
    for name in (
        "Chart.yaml",
        "files/flyte/flyte-binary.yaml",
        "files/flyte/flyte-core.yaml",
        "files/alertmanager/alertmanager.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((CHART / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "values.yaml").write_text(text.replace("port: 9404", "port: 9405  "), encoding="utf-8")
    assert generate.files()[tmp_path / "README.md"] != before[CHART / "README.md"]
    (tmp_path / "values.yaml").write_text(text.replace("# -- Port of the metrics", "# -- Where metrics are"), encoding="utf-8")
    assert generate.files()[tmp_path / "values.schema.json"] != before[CHART / "values.schema.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "a: no description"),
        ("# -- A\na: {}", "a: what may stand there"),
        ("# -- A\na: []", "a: what may stand there"),
        ("a:\n  # just a comment\n  b: 1", "a.b: no description"),
    ],
)
def test_a_key_that_says_too_little_is_refused(text: str, said: str) -> None:
    with pytest.raises(generate.Mistake, match=said):
        generate.keys(text)


def test_comments_of_a_key() -> None:
    (one, several) = generate.keys(
        "# not of it\n# -- Of `a`,\n# in two lines\n# @schema {minimum: 3}\na: 4\n"
        "# -- All\nb:\n  - # -- Of c\n    # @schema name\n    c: x\n"
    )
    assert (one.description, one.declared, one.default) == ("Of `a`, in two lines", {"minimum": 3}, 4)
    (inner,) = several.children
    assert (inner.path, inner.description, inner.declared) == ("b[].c", "Of c", {"$ref": "#/definitions/name"})


def test_thresholds_are_those_of_the_policy() -> None:
    policy = schema()["properties"]["nodes"]["properties"]["policy"]
    assert set(policy["properties"]) == set(Policy.model_fields) and policy["additionalProperties"] is False


def test_every_example_is_what_the_settings_take() -> None:
    """Thresholds that the schema lets through are taken by the controller."""
    example = schema()["properties"]["nodes"]["properties"]["policy"]["examples"][0]
    assert Settings.checked({"policy": example}).policy != Policy()


def test_the_chart_is_of_this_version() -> None:
    assert read(CHART / "Chart.yaml")["appVersion"] == __version__


def test_every_value_is_in_the_readme() -> None:
    text = (CHART / "README.md").read_text(encoding="utf-8")
    missing = [shown(path) for path, _ in leaves() if f"`{shown(path).replace('.0.', '[].')}`" not in text]
    assert not missing


def test_flyte_values_have_what_is_needed() -> None:
    """The two files of values against the list that NOTES look for in a cluster."""
    needed = yaml.safe_load((CHART / "files/flyte/needed.yaml").read_text(encoding="utf-8"))
    binary = read(CHART / "files/flyte/flyte-binary.yaml")["configuration"]["inline"]
    core = read(CHART / "files/flyte/flyte-core.yaml")
    merged = {"storage": core["storage"], **core["configmap"]["core"], **core["configmap"]["k8s"]}
    template = read(CHART / "values.yaml")["tasks"]["podTemplate"]["name"]
    for values in (binary, merged):
        for wanted in needed:
            assert setting(wanted, [values], {template}).verdict is Verdict.OK, wanted
    assert "key" not in json.dumps([binary, core]).lower(), "no keys in default-env-vars"
