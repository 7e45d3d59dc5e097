"""What led to a model of a finished run, against sums over the files that its stages left."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Finished

from lehr.cli.main import main

pytestmark = pytest.mark.slow
HARDWARE = {
    "accelerator": "x86 core", "count": 2, "memory_gib": 2, "peak_tflops": 0.2, "mfu": 0.2, "watts": 6, "price_per_hour": 0.04,
}  # fmt: skip


def _above(out: Path, stage: str) -> list[dict[str, Any]]:
    """The manifests of a stage and of all that it was made from, each once, by nothing but their digests."""
    made = [json.loads(path.read_text()) for path in out.glob("artifacts/*/artifact.json")]
    found = {m["digest"]: m for m in made if m["stage"] == stage}
    while True:
        parents = {parent["digest"] for m in found.values() for parent in m["parents"]}
        more = {m["digest"]: m for m in made if m["digest"] in parents - found.keys()}
        if not more:
            return list(found.values())
        found |= more


def test_costs_are_the_sums_over_the_ancestors(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three stages of one run: both anneals share stage 1 and the ramp, which the soup counts once."""
    run = tmp_path / "run"
    shutil.copytree(finished.out, run)
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    assert "hardware: null\n" in recipe
    (run / "recipe.yaml").write_text(recipe.replace("hardware: null\n", f"hardware: {json.dumps(HARDWARE)}\n"))
    stages = ("anneal-1", "soup", "rlvr")
    capsys.readouterr()
    out = tmp_path / "page.html"
    each = [word for stage in stages for word in ("--stage", stage)]
    assert main(["compare", str(run), *each, "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [model["stage"] for model in found["models"]] == list(stages)
    for model in found["models"]:
        above = _above(run, model["stage"])
        costs = [m["cost"] for m in above]
        assert model["flops"]["value"] == pytest.approx(math.fsum(cost["flops"] for cost in costs))
        assert model["tokens"]["value"] == sum(m["cost"]["tokens"] for m in above if m["kind"] == "checkpoint")
        assert model["kwh"]["value"] == pytest.approx(math.fsum(cost["energy_joules"] for cost in costs) / 3.6e6)
        assert model["money"]["value"] == pytest.approx(math.fsum(cost["seconds"] for cost in costs) / 3600 * 2 * 0.04)
        assert not any(model[quantity]["missing"] for quantity in ("flops", "tokens", "kwh", "money"))
    one, soup = (len([m for m in _above(run, stage) if m["kind"] == "checkpoint"]) for stage in stages[:2])
    assert (one, soup) == (3, 5)
    took = json.loads((run / "footprint.json").read_text())
    scoring = [s for name, s in took["stages"].items() if name not in {m["stage"] for m in _above(run, "rlvr")}]
    whole = found["models"][2]["kwh"]["value"] * 3.6e6 + sum(s["it_joules"] or 0.0 for s in scoring)
    assert whole == pytest.approx(took["it_joules"])  # what the report counts, and no more
    assert out.read_text(encoding="utf-8").count("on the Pareto frontier") > 4
