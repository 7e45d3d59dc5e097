"""The reports' energy and carbon tables, from the clusters' files and what each report measured. Every difference between a
printed figure and the formula is explained where it stands."""

from __future__ import annotations

import pytest

from lehr.config import load_recipe
from lehr.planning.plan import RunPlan, plan_run
from tests.plan.released import ROOT, released


def reproduced(name: str, machines: str, *overrides: str) -> RunPlan:
    """A plan without post-training: the tables are about pretraining."""
    return plan_run(released(name, machines, "posttraining.sft.max_length=0", "posttraining=[]", *overrides))


@pytest.mark.parametrize(
    ("name", "machines", "mwh", "tonnes", "kilolitres"),
    [
        # 131 x 1.2 x 0.332 = 52.19 t; x 1.29 = 202.8 kL, which OLMo 2 Table 19 cuts to 202
        ("olmo2-7b", "jupiter", 131, 52, 202.8),
        # 257 x 1.12 x 0.352 = 101.3 t, and 101.0 with the table's 0.351: both print as 101; x 3.10 = 892.3 kL
        ("olmo2-13b", "augusta", 257, 101, 892),
        # 104 x 1.1 x 0.610 = 69.78 t (OLMo 1 appendix B says 69.78); water as OLMo 2 adds it: x 4.26 = 487.3 kL
        ("olmo1-7b", "mosaicml", 104, 70, 487),
        ("olmo1-7b", "lumi", 135, 0, 0),
    ],
)
def test_olmo_tables(name: str, machines: str, mwh: float, tonnes: float, kilolitres: float) -> None:
    """OLMo 2 Table 19 and OLMo 1 Table 6. Their "GPU power" is IT energy, measured at the node; PUE comes on top."""
    measured = f"hardware.reported={{it_kwh: {1000 * mwh}.0, citation: table}}"
    total = reproduced(name, machines, measured).total
    assert total["it_kwh"] == pytest.approx(1000 * mwh)
    assert round(total["co2_kg"] / 1000) == tonnes
    assert total["water_l"] / 1000 == pytest.approx(kilolitres, abs=0.5)


@pytest.mark.parametrize(
    ("recipe", "key", "printed", "tonnes"),
    [
        ("olmo2-7b", "it_kwh", 131, 52),
        ("olmo2-13b", "it_kwh", 257, 101),
        ("olmo1-7b", "it_kwh", 135, 0),
        ("granite3-2b", "kwh", 174.6, 68.1),
        ("granite3-8b", "kwh", 757.0, 295.2),
        ("granite3-1b-a400m", "kwh", 64.5, 25.2),
        ("granite3-3b-a800m", "kwh", 121.2, 47.2),
        ("stablelm2-1.6b", "kwh", 30, 11.55),  # printed as 11
    ],
)
def test_shipped_recipes_reproduce_their_reports(recipe: str, key: str, printed: float, tonnes: float) -> None:
    """Pretraining of recipes/released on the machines that they name; post-training is planned on top of it. The machines
    hold the model, as they did."""
    plan = plan_run(load_recipe(ROOT / f"recipes/released/{recipe}.yaml"))
    rows = [s.row() for s in plan.stages if s.work.kind == "pretraining"]
    assert sum(row[key] for row in rows) / 1000 == pytest.approx(printed, rel=0.005)  # type: ignore[misc, arg-type]
    assert sum(row["co2_kg"] for row in rows) / 1000 == pytest.approx(tonnes, rel=0.005)  # type: ignore[misc, arg-type]
    assert plan.problems == []


def test_olmo_sums_in_the_text() -> None:
    """OLMo 2: "about 154 tCO2eq" and "1.1 million liters", which are 52 + 101 and 202 + 892 of the table: 153.5 and 1.095.
    Its "391 MWh" is neither the table's 131 + 257 = 388 nor 445 with PUE (conflict olmo2_energy). OLMo 1: 239 MWh."""
    plans = [
        reproduced(name, machines, f"hardware.reported={{it_kwh: {kwh}.0, citation: table}}").total
        for name, machines, kwh in (("olmo2-7b", "jupiter", 131_000), ("olmo2-13b", "augusta", 257_000))
    ]
    assert sum(p["co2_kg"] for p in plans) / 1000 == pytest.approx(154, abs=0.6)
    assert sum(p["water_l"] for p in plans) / 1e6 == pytest.approx(1.1, abs=0.01)
    assert (sum(p["it_kwh"] for p in plans), sum(p["kwh"] for p in plans)) == pytest.approx((388_000, 445_040))


def test_lumi_on_hydroelectric_power() -> None:
    """3.54 t are printed for 0.024 kg/kWh; 135 x 1.1 x 0.024 = 3.56, so the report reckoned with 134.1 MWh."""
    measured = "hardware.reported={it_kwh: 135000.0, citation: OLMo 1 Table 6}"
    total = reproduced("olmo1-7b", "lumi", measured, "site.carbon_kg_per_kwh=0.024").total
    assert total["co2_kg"] / 1000 == pytest.approx(3.54, rel=0.01)


@pytest.mark.parametrize(
    ("name", "hours", "mwh", "tonnes"),
    [
        ("granite3-2b", 192_030, 174.6, 68.1),
        ("granite3-8b", 832_102, 757.0, 295.2),
        ("granite3-1b-a400m", 71_171, 64.5, 25.2),
        ("granite3-3b-a800m", 133_308, 121.2, 47.2),
    ],
)
def test_granite_table(name: str, hours: int, mwh: float, tonnes: float) -> None:
    """Granite 3.0 Table 7: hours x 700 W x 1.3. The formula gives 174.75, 757.21, 64.77 and 121.31 MWh; the printed ones are
    up to 0.41 % lower (conflict granite_energy), as if from hours before rounding. Its energy includes PUE."""
    plan = reproduced(name, "blue-vela", f"hardware.reported={{gpu_hours: {hours}.0, citation: Granite 3.0 Table 7}}")
    assert plan.total["gpu_hours"] == pytest.approx(hours)
    assert plan.total["kwh"] == pytest.approx(hours * 0.7 * 1.3)
    assert plan.total["kwh"] / 1000 == pytest.approx(mwh, rel=0.005)
    assert plan.total["co2_kg"] / 1000 == pytest.approx(tonnes, rel=0.005)


def test_stable_lm_2() -> None:
    """Stable LM 2 section 7.1: 92,000 hours and 30 MWh with PUE 1.1, so 296 W on average; 30 x 0.385 = 11.55 t, printed as
    11. Stable LM 2 section 1: "around $322k", at $3.5 an hour."""
    plan = reproduced("stablelm2-1.6b", "stability-p4d", "hardware.reported={gpu_hours: 92000.0, citation: hours}")
    assert plan.total["kwh"] / 1000 == pytest.approx(30, rel=0.001)
    assert int(plan.total["co2_kg"] / 1000) == 11
    assert plan.total["cost"] == pytest.approx(322_000)
    # 4.02T tokens in 92,000 hours are 38 % of an A100's peak by our count of FLOPs, and 43 % where all of attention's square
    # counts; the report has 54.5 % (conflict slm_mfu). With 2T tokens it would be 19 % (conflict slm_tokens).
    assert 0.35 < plan.stages[0].mfu < 0.40


def test_hours_follow_from_flops_and_utilisation() -> None:
    """By hand for OLMo 2 7B at 40 %: 6 x (32 x (4 d^2 + 3 d h) + V d) + 6 x 32 x 4096 x d FLOPs a token."""
    d, h = 4096, 11008
    flops = 6 * (32 * (4 * d * d + 3 * d * h) + 100352 * d) + 6 * 32 * 4096 * d
    plan = reproduced("olmo2-7b", "jupiter")
    tokens = 928_640 * 4_194_304 + 3 * 11_920 * 4_194_304  # whole steps of 3.895T and of 50B
    assert plan.total["tokens"] == tokens
    assert plan.total["gpu_hours"] == pytest.approx(flops * tokens / (989e12 * 0.4 * 3600))
    assert plan.total["seconds"] == pytest.approx(plan.total["gpu_hours"] * 3600 / 1024)
    assert plan.total["cost"] == pytest.approx(plan.total["gpu_hours"] * 2.5)


def test_reported_figures_are_shared_out_by_flops() -> None:
    measured = "hardware.reported={it_kwh: 131000.0, citation: OLMo 2 Table 19}"
    stages = reproduced("olmo2-7b", "jupiter", measured).stages
    assert all(s.reported == ("it_kwh",) for s in stages) and len(stages) == 4
    assert stages[1].it_kwh / stages[0].it_kwh == pytest.approx(stages[1].work.tokens / stages[0].work.tokens)
