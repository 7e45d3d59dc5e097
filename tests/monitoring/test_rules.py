"""Rules are what their definitions say, and every alert has a page that a person can follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from lehr.cli.main import lehr
from lehr.monitoring.metrics import FLEET_METRICS, METRICS, SERVING_METRICS
from lehr.monitoring.rules import fleet, serving, training, write
from lehr.monitoring.rules.inhibition import INHIBITIONS
from tests.graph.source import ROOT

ALERTS = {alert.name: alert for alert in (*training.alerts(), *fleet.alerts(), *serving.alerts())}
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["What it means", "How to look", "What to do", "When to silence"]
NAMES = {metric.name for metric in (*METRICS, *FLEET_METRICS, *SERVING_METRICS)}
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def test_the_charts_files_are_what_the_definitions_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert write.main(["--check"]) == 0, f"{capsys.readouterr().out}\nrun `make chart`"


def test_a_changed_definition_changes_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(training, "SLOWEST", 1.2)
    assert write.main(["--check"]) == 1
    assert capsys.readouterr().out == "helm/lehr/files/rules/runs.yaml: would change\n"


def test_no_file_stands_there_that_nothing_writes() -> None:
    written = set(write.texts())
    assert {path for name in ("rules", "alertmanager") for path in (write.FILES / name).rglob("*.yaml")} == written


def test_rules_read_metrics_that_are_declared_and_each_other() -> None:
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    for rule in _rules():
        used = set(re.findall(r"(?<![\w:])(?:\w+:)?lehr_[\w:]+", rule["expr"]))
        assert {name if name in NAMES else SUFFIXES.sub("", name) for name in used} <= NAMES | recorded, rule


def _rules() -> Iterator[dict[str, str]]:
    for content in write.documents().values():
        for group in content.get("groups", []):
            yield from group["rules"]


def test_every_alert_says_how_bad_it_is_and_what_to_do_next() -> None:
    for alert in ALERTS.values():
        assert alert.severity in ("critical", "warning")
        _, _, step = alert.summary.partition(": ")
        assert len(step.split()) >= 3, f"{alert.name}: no next step in {alert.summary!r}"
        assert not alert.summary.endswith(".") and alert.description.endswith(".")


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    for rule in _rules():
        if "alert" in rule:
            assert (ROOT / rule["annotations"]["runbook_url"]).is_file()  # type: ignore[index]


def test_inhibitions_name_alerts_that_are_there_and_none_keeps_itself_quiet() -> None:
    for inhibition in INHIBITIONS:
        assert {*inhibition.causes, *inhibition.effects} <= set(ALERTS)
        assert not {*inhibition.causes} & {*inhibition.effects}


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_page_can_be_followed(name: str) -> None:
    """It has the four sections, is short, and names commands, metrics and pages that exist."""
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert text.startswith(f"# {name}\n") and len(text.splitlines()) < 40
    quoted = re.findall(r"`([^`]+)`", text)
    assert not [wrong for wrong in quoted if wrong.startswith("lehr ") and not _is_command(wrong)]
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    assert {word for word in quoted if re.fullmatch(r"[\w:]*lehr_\w+", word)} <= NAMES | recorded
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        page = (RUNBOOKS / target).resolve()
        assert page.is_file() and (not anchor or anchor in _anchors(page)), link


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def _is_command(text: str) -> bool:
    """Whether `lehr GROUP COMMAND --option ...` names commands and options that there are."""
    found: click.Command = lehr
    words = text.split()[1:]
    while words and isinstance(found, click.Group):
        inner = found.get_command(click.Context(found), words[0])
        if inner is None:
            return False
        found, words = inner, words[1:]
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return not isinstance(found, click.Group) and {word for word in words if word.startswith("-")} <= options


def test_a_wrong_command_in_a_page_is_noticed() -> None:
    assert _is_command("lehr nodes cordon NODE --reason ...") and _is_command("lehr logs RUN STAGE")
    assert (
        not _is_command("lehr nodes mend NODE")
        and not _is_command("lehr logs RUN --since 5m")
        and not _is_command("lehr nodes")
    )


def test_alertmanagers_example_has_both_receivers() -> None:
    text = (write.FILES / "alertmanager/alertmanager.yaml").read_text(encoding="utf-8")
    assert [receiver["name"] for receiver in yaml.safe_load(text)["receivers"]] == ["pager", "tickets"]
