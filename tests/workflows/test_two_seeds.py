"""A workflow of one's own runs as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from tests.workflows.two_seeds import two_seeds

RECIPE = """
inherits: {base}
ramp: null
anneals: null
posttraining: []
stage1: {{tokens: 8192, schedule: {{horizon_tokens: 20000}}}}
parallel: {{processes: 1}}
evaluation: {{tasks: [{{task: prose, limit: 4}}]}}
"""
E2E = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"


@pytest.mark.slow
@pytest.mark.long
def test_two_seeds_side_by_side(tmp_path: Path) -> None:
    recipe = tmp_path / "short.yaml"
    recipe.write_text(RECIPE.format(base=E2E), encoding="utf-8")
    reports = two_seeds(recipe=str(recipe), out_a=str(tmp_path / "a"), out_b=str(tmp_path / "b"))
    assert [Path(report).parent.name for report in reports] == ["a", "b"] and all(Path(report).is_file() for report in reports)
    values = [json.loads((tmp_path / name / "scores.json").read_text())[0]["value"] for name in ("a", "b")]
    assert values[0] != values[1]
