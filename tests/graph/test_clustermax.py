"""docs/clustermax.md claims nothing that no test holds."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.graph.source import ROOT, committed_files

PAGE = (ROOT / "docs/clustermax.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z]\d+) \| (.+?) \| (met|not ours|missing) \| (.*?) ?\|$", PAGE, re.MULTILINE)
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_line_of_a_table_has_one_of_three_verdicts_and_the_sum_is_true() -> None:
    lines = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z]", line)]
    assert len(ROWS) == len(lines) == len({row[0] for row in ROWS})
    count = Counter(row[2] for row in ROWS)
    said = f"**{len(ROWS)} checks: {count['met']} met, {count['not ours']} not ours, {count['missing']} missing.**"
    assert said in PAGE
    short = f"Of {len(ROWS)} checks that ClusterMAX lists, {count['met']} are met and name their tests, "
    short += f"{count['not ours']} are not ours, {count['missing']} are missing"
    assert short in (ROOT / "docs/fleet.md").read_text(encoding="utf-8")


def test_what_is_met_names_a_test_and_what_is_not_ours_names_who() -> None:
    assert not [row[0] for row in ROWS if row[2] == "met" and "::test_" not in row[3]]
    assert not [row[0] for row in ROWS if row[2] == "not ours" and not row[3]]


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)), ids=lambda value: value.rsplit("/")[-1])
def test_a_test_that_is_named_is_there(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_nccl_is_left_to_choose() -> None:
    """Nothing that runs or is rendered sets its channels, protocol or algorithm: N5."""
    choices = re.compile("NCCL_(ALGO|PROTO|(MIN|MAX)_(N?CHANNELS|CTAS))")
    rooms = ("lehr", "infra", "tasks", "workflows", "helm", "recipes", "cli", "monitoring", "Dockerfile")
    files = [path for path in committed_files() if path.relative_to(ROOT).parts[0] in rooms]
    assert len(files) > 200
    assert not [path for path in files if choices.search(path.read_text(encoding="utf-8", errors="replace"))]
