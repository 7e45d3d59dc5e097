"""What a run took as a whole, on its parent run in a real MLflow store: the numbers of footprint.json."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.report.data import ReportData, Site, StageReport, Unfinished
from lehr.report.totals import TOTALS, footprint, run_totals

sys.path.insert(0, str(Path(__file__).parent))
from tracked import client, new_store, store, tracker

SITE = Site(pue=1.2, carbon_kg_per_kwh=0.332, water_liters_per_kwh=1.29)


def took(
    stages: dict[str, float], source: str = "nvml", site: Site | None = SITE, lost: float = 0.0, gaps: Sequence[str] = ()
) -> ReportData:
    """What the report says of stages with these joules, and of work that led to nothing."""
    made = [
        StageReport(name=name, energy_joules=joules, energy_source=source, energy={source: joules}, energy_gaps=list(gaps))
        for name, joules in stages.items()
    ]
    unfinished = [Unfinished(name="sft", seconds=9.0, energy={"estimated": lost})] if lost else []
    return ReportData(run="tiny", stages=made, unfinished=unfinished, site=site)


def publish(root: Path, data: ReportData, reused: Collection[str] = ()) -> None:
    """One process of the run, which ends with its report."""
    tracked = tracker(root)
    for stage in data.stages:
        tracked.stage_finished(stage.name, uri="", reused=stage.name in reused, seconds=1.0)
    tracked.totals(*run_totals(data))
    tracked.close(timeout_seconds=280.0)


def parent(root: Path) -> Any:
    """The one run that is no stage's."""
    mlflow = client(root)
    found = mlflow.search_runs([mlflow.get_experiment_by_name("lehr").experiment_id], "tags.`lehr.run_key` = 'here'")
    (one,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return mlflow.get_run(one.info.run_id)


def shown(root: Path) -> dict[str, float | None]:
    """The parent's metrics, under their names in footprint.json."""
    found = parent(root).data.metrics
    return {key: found.get(name) for key, name in TOTALS.items()}


def test_the_parent_run_has_the_totals_of_footprint_json(tmp_path: Path) -> None:
    """Published; then a killed attempt and a superseded stage (its artifact is not of the run any more); then nothing new."""
    store(new_store(tmp_path / "new" / "mlflow.db"), tmp_path / "run")
    root, first = tmp_path / "run", took({"stage1": 4e6, "sft": 3e6}, gaps=["1 of 2 machines did not count"])
    last = took({"stage1": 4e6, "sft": 1e6}, lost=5e5)
    publish(root, first)
    assert shown(root) == {key: footprint(first)[key] for key in TOTALS}
    assert parent(root).data.tags["energy.missing"] == "1 of 2 machines did not count"
    for reused in (["stage1"], ["stage1", "sft"]):
        publish(root, last, reused)
        assert shown(root) == {key: footprint(last)[key] for key in TOTALS}  # fewer than before: the newest counts
    assert shown(root)["it_joules"] == 5.5e6 and shown(root)["carbon_kg"] == pytest.approx(5.5 / 3.6 * 1.2 * 0.332)
    tags = parent(root).data.tags
    assert tags["energy.source"] == "nvml+estimated" and tags["energy.missing"] == "none"


def test_what_is_not_known_is_no_metric(tmp_path: Path) -> None:
    store(new_store(tmp_path / "new" / "mlflow.db"), tmp_path / "run")
    publish(tmp_path / "run", took({"stage1": 7.0}, site=Site(pue=1.0, carbon_kg_per_kwh=0.3)))
    assert shown(tmp_path / "run")["it_joules"] == 7.0 and shown(tmp_path / "run")["water_liters"] is None
    values, tags = run_totals(ReportData(run="empty"))
    assert values == {} and tags == {"energy.source": "none", "energy.missing": "none"}
