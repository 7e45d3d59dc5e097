"""What the report, the card and footprint.json say of energy: by source, over ancestors, attempts and what led to nothing."""

from __future__ import annotations

import json
import re

import pytest

from lehr.report import ReportData, Site, StageReport, Unfinished, model_card, render
from lehr.report.headline import measured
from lehr.report.totals import footprint

KWH = 3.6e6


def stage(name: str, energy: dict[str, float], **more: object) -> StageReport:
    total = sum(energy.values())
    values = {"energy_joules": total, "energy_source": "+".join(energy), "energy": energy, "seconds": 100.0, **more}
    return StageReport.model_validate({"name": name, **values})


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_an_artifact_that_is_reached_on_two_paths_counts_once() -> None:
    """A run whose base is an artifact of its own place has it as an ancestor and as a stage."""
    same = {"digest": "d" * 64, "uri": "stage1-0123456789ab"}
    ancestor, own = stage("base/stage1", {"nvml": 2 * KWH}, **same), stage("stage1", {"nvml": 2 * KWH}, **same)
    other = stage("anneal", {"nvml": 1 * KWH}, digest="d" * 64, uri="anneal-0123456789ab")  # as much, and work of its own
    data = ReportData(run="x", stages=[ancestor, own, other])
    assert data.it_energy == 3 * KWH and data.seconds == 200.0


def test_stages_without_addresses_are_all_counted() -> None:
    data = ReportData(run="x", stages=[stage("a", {"nvml": 1.0}), stage("b", {"nvml": 2.0})])
    assert data.it_energy == 3.0


def test_mixed_sources_are_shown_with_what_each_measured() -> None:
    data = ReportData(run="x", stages=[stage("a", {"nvml": 2 * KWH, "estimated": 3.6e5}), stage("b", {"rapl": 1.8e6})])
    assert list(data.energy) == ["nvml", "rapl", "estimated"] and data.it_energy == pytest.approx(2.6 * KWH)
    assert measured(data) == (
        "2.00 kWh measured by the GPUs' own counters; 500 Wh measured by the processors' own counters, this run's share by CPU "
        "time; 100 Wh estimated from CPU seconds, not measured"
    )
    assert "Estimated figures are CPU seconds" in text_of(render(data))
    assert "100 Wh estimated from CPU seconds" in model_card(data)


def test_what_led_to_nothing_is_part_of_the_sum_and_of_the_carbon() -> None:
    lost = [Unfinished(name="sft-0123456789ab", seconds=60.0, energy={"nvml": KWH}, attempts=2)]
    site = Site(pue=1.5, carbon_kg_per_kwh=0.4, water_liters_per_kwh=2.0)
    data = ReportData(run="x", stages=[stage("a", {"nvml": 3 * KWH}, attempts=3, machines=4)], unfinished=lost, site=site)
    assert data.it_energy == 4 * KWH and data.seconds == 160.0
    assert data.carbon_kg == pytest.approx(4 * 1.5 * 0.4) and data.water_liters == pytest.approx(4 * 1.5 * 2)
    page, card = text_of(render(data)), model_card(data)
    assert "2 attempts that led to nothing" in page and "all of it" in page and "4.00 kWh of IT energy" in page
    assert "Counted over up to 4 machines a stage and 2 attempts that had to be repeated." in page
    assert "2 attempts that led to nothing, in the same place, are part of it: 1.00 kWh." in card
    plain = text_of(render(ReportData(run="x", stages=data.stages, site=site)))
    assert "led to nothing" not in plain and "all stages" in plain


def test_what_is_missing_is_said_wherever_the_figure_is() -> None:
    gaps = ["host-1: <b>GPU-7</b> does not answer", "1 of 2 machines did not count"]
    data = ReportData(
        run="x", stages=[stage("a", {"nvml": KWH}, energy_gaps=gaps), stage("b", {"nvml": KWH}, energy_gaps=gaps)]
    )
    assert data.energy_gaps == gaps and measured(data).endswith("own counters; incomplete")
    page, card = render(data), model_card(data)
    assert "<b>GPU-7" not in page and "<b>GPU-7" not in card
    assert "1 of 2 machines did not count" in page and "1 of 2 machines did not count" in card
    assert "incomplete" not in measured(ReportData(run="x", stages=[stage("a", {"nvml": KWH})]))


def test_the_numbers_for_other_programs_are_those_of_the_report() -> None:
    lost = [Unfinished(name="sft-0", seconds=60.0, energy={"estimated": 5.0})]
    data = ReportData(run="x", stages=[stage("a", {"nvml": 15.0})], unfinished=lost, site=Site(pue=2.0, carbon_kg_per_kwh=0.36))
    found = json.loads(json.dumps(footprint(data)))
    assert (found["it_joules"], found["facility_joules"]) == (20.0, 40.0) and found["carbon_kg"] == pytest.approx(4e-6)
    assert found["it_joules_by_source"] == {"nvml": 15.0, "estimated": 5.0} and found["water_liters"] is None
    nothing = {"seconds": 60.0, "it_joules": 5.0, "it_joules_by_source": {"estimated": 5.0}}
    assert found["unfinished"] == {"sft-0": nothing} and found["stages"]["a"]["it_joules"] == 15.0
    assert footprint(ReportData(run="empty"))["it_joules"] is None
