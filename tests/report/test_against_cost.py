"""What led to a model, and scores against it: by hand on small lineages, and the frontier by another algorithm."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.analysis.ancestors import nowhere
from lehr.analysis.expense import Amount, Expense, expense, mean
from lehr.analysis.runs import load
from lehr.analysis.side_by_side import SideBySide
from lehr.analysis.tradeoff import Mark, Tradeoff, model_of
from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost, Kind
from lehr.cli.compared import shown
from lehr.cli.main import main
from lehr.monitoring.screen import Screen
from lehr.report.compared import comparison_page
from lehr.runtime.metrics import metric
from tests.report.test_report import Reader

GPU = {"accelerator": "GPU", "count": 8, "memory_gib": 80, "peak_tflops": 100, "mfu": 0.4, "watts": 500, "price_per_hour": 2.0}
CORES = {**GPU, "accelerator": "x86 core", "count": 4, "price_per_hour": 0.5}
HOUR = 3600.0


class Run:
    """A run's folder, made stage by stage."""

    def __init__(self, folder: Path, hardware: dict[str, Any] | None = None) -> None:
        self.folder, self.made = folder, dict[str, Artifact]()
        folder.mkdir(parents=True)
        self.recipe = {"name": folder.name, **({"hardware": hardware} if hardware else {})}
        (folder / "recipe.yaml").write_text(json.dumps(self.recipe))

    def add(self, stage: str, kind: Kind, of: str, parents: list[Artifact], seed: int = 0, **cost: Any) -> Artifact:
        place = self.folder / "artifacts" / f"{stage}-1"
        place.mkdir(parents=True)
        (place / "w").write_text(f"{stage} {seed}")
        paid = Cost(**{"seconds": HOUR, "energy_joules": 3.6e6, "energy_source": "rapl", **cost})
        refs = [parent.ref for parent in parents]
        config = {"model": stage.removeprefix("scores-")} if kind == "scores" else {}
        self.made[stage] = Artifact.seal(
            place, kind=kind, stage=stage, stage_kind=of, fingerprint="f", parents=refs, config=config, code="c", meta={},
            cost=paid,
        )  # fmt: skip
        return self.made[stage]

    def score(self, model: Artifact, value: float) -> None:
        stage = model.manifest.stage
        row = {
            "stage": stage,
            "task": "arithmetic",
            "split": "held_out",
            "metric": "exact_match",
            "value": value,
            "stderr": 0.02,
            "n": 500,
        }
        place = self.folder / "artifacts" / f"scores-{stage}-1"
        place.mkdir(parents=True)
        (place / "scores.json").write_text(json.dumps([row, {**row, "task": "chat_math", "value": value / 2}]))
        Artifact.seal(
            place, kind="scores", stage=f"scores-{stage}", stage_kind="evaluate", fingerprint="f", parents=[model.ref],
            config={"model": stage}, code="c", meta={}, cost=Cost(seconds=9 * HOUR),
        )  # fmt: skip


def _soup_run(folder: Path, hardware: dict[str, Any] | None = None) -> Run:
    """documents, shards -> stage1 -> two anneals -> their soup."""
    run = Run(folder, hardware)
    documents = run.add("documents", "documents", "documents", [])
    shards = run.add("shards", "shards", "shards", [documents], tokens=999)
    stage1 = run.add("stage1", "checkpoint", "pretrain", [shards], tokens=100, flops=1e9, processes=8, attempts=2)
    two = [
        run.add(f"anneal-{s}", "checkpoint", "midtrain", [stage1, shards], s, tokens=10, flops=1e8, processes=4) for s in (1, 2)
    ]
    run.add("soup", "checkpoint", "soup", two)
    return run


def test_each_ancestor_counts_once_and_a_gpu_hour_has_the_price_of_its_recipe(tmp_path: Path) -> None:
    run = _soup_run(tmp_path / "run", GPU)
    found = expense(run.made["soup"], nowhere)
    assert (found.flops.whole, found.tokens.whole, found.kwh.whole) == (1.2e9, 120, 6.0)
    # Eight GPUs for an hour, twice four; documents, shards and the soup are made without.
    assert (found.money.whole, found.currency) == ((8 + 4 + 4) * 2.0, "USD") and "not priced" in found.money.how
    one = expense(run.made["anneal-1"], nowhere)
    assert (one.flops.whole, one.tokens.whole, one.kwh.whole, one.money.whole) == (1.1e9, 110, 4.0, 24.0)
    cores = expense(_soup_run(tmp_path / "cores", CORES).made["soup"], nowhere)
    assert cores.money.whole == 6 * 4 * 0.5  # the machine, for as long as each of the six stages took
    moved = tmp_path / "moved"
    shutil.move(run.folder, moved)
    assert expense(Artifact.open(moved / "artifacts/soup-1"), nowhere) == found


def test_a_base_of_another_run_is_paid_at_its_own_price(tmp_path: Path) -> None:
    base = _soup_run(tmp_path / "base", GPU)
    run = Run(tmp_path / "tuned", {**GPU, "price_per_hour": 3.0})
    rows = run.add("rows", "conversations", "conversations", [])
    sft = run.add("sft", "checkpoint", "sft", [base.made["soup"], rows], tokens=1, flops=1e7, processes=2)
    found = expense(sft, nowhere)
    assert found.money.whole == 32 + 2 * 3.0 and found.flops.whole == 1.21e9 and found.kwh.whole == 8.0
    assert "2 USD per GPU-hour and 3 USD per GPU-hour" in found.money.how
    (base.folder / "recipe.yaml").write_text(json.dumps({**base.recipe, "hardware": {**GPU, "currency": "EUR"}}))
    mixed = expense(sft, nowhere).money
    assert mixed.value is None and mixed.missing == ("in EUR and USD, which are not added",)
    (base.folder / "recipe.yaml").write_text("name: [")
    unpriced = expense(sft, nowhere).money
    assert (
        unpriced.value == 6.0
        and unpriced.whole is None
        and "no price is stated for documents, shards, stage1 and 3 more" in unpriced.missing[0]
    )
    shutil.rmtree(base.folder / "artifacts/stage1-1")
    gone = expense(sft, nowhere)
    assert (gone.flops.value, gone.flops.whole) == (2.1e8, None) and "stage1 is not here" in gone.flops.missing[0]


def test_work_that_led_to_nothing_counts_for_the_models_that_it_was_for(tmp_path: Path) -> None:
    """The ledger of an unfinished run, and the footprint of a finished one; another stage's failure is not the soup's."""
    run = _soup_run(tmp_path / "run", CORES)
    entry = {"attempt": 1, "rank": 0, "group": 0, "host": "h", "seconds": HOUR}
    entry["metered"] = [{"source": "rapl", "device": "0", "joules": 3.6e6}]
    for stage in ("stage1", "dpo"):
        ledger = run.folder / "work" / f"{stage}-abc" / "energy" / "1-0.json"
        ledger.parent.mkdir(parents=True)
        ledger.write_text(json.dumps(entry))
    run.add("dpo", "checkpoint", "dpo", [run.made["soup"]])
    soup, dpo = (expense(run.made[name], nowhere) for name in ("soup", "dpo"))
    assert (soup.kwh.whole, soup.money.whole) == (7.0, 7 * 2.0) and (dpo.kwh.whole, dpo.money.whole) == (9.0, 9 * 2.0)
    lost = {"stage1-abc": {"seconds": 2 * HOUR, "it_joules": 7.2e6, "it_joules_by_source": {"estimated": 7.2e6}}}
    (run.folder / "footprint.json").write_text(json.dumps({"unfinished": lost}))
    published = expense(run.made["soup"], nowhere)
    assert published.kwh.whole == 8.0 and published.kwh.how == "75 % measured by rapl, 25 % estimated from CPU seconds"
    (run.folder / "footprint.json").write_text('{"unfinished": {"stage1-abc": 3}}')
    assert expense(run.made["soup"], nowhere).kwh.whole == 6.0


def test_of_somebody_elses_model_nothing_is_known_and_a_missing_meter_is_said(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", GPU)
    given = run.add("imported", "checkpoint", "import_hf", [], seconds=2.0, energy_joules=0.0, energy_source="none")
    found = expense(given, nowhere)
    assert [found.amount(q).value for q in ("flops", "tokens", "kwh")] == [None] * 3
    assert all("imported: a model of somebody else" in found.amount(q).missing[0] for q in ("flops", "tokens", "kwh", "money"))
    tuned = expense(run.add("sft", "checkpoint", "sft", [given], tokens=5, flops=1e6), nowhere)
    assert (tuned.flops.value, tuned.flops.whole) == (
        1e6,
        None,
    ) and tuned.kwh.missing == found.kwh.missing == found.money.missing
    blind = run.add("dpo", "checkpoint", "dpo", [_soup_run(tmp_path / "other").made["soup"]], energy_source="none")
    assert expense(blind, nowhere).kwh.missing == ("no meter ran in dpo",)
    broken = run.add("grpo", "checkpoint", "grpo", [given], flops=float("nan"))
    assert expense(broken, nowhere).flops.missing == ("its manifests hold costs that are no amounts",)


amounts = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 1.5, 2.0, 1e9]), st.floats(0, 1e20))


@given(
    st.lists(st.tuples(amounts, st.none() | st.sampled_from([0.1, 0.5, 0.9]) | st.floats(-1e3, 1e3)), max_size=9), st.booleans()
)
def test_the_frontier_is_what_a_sweep_from_the_cheapest_finds(
    points: list[tuple[float | None, float | None]], lower: bool
) -> None:
    def one(amount: float | None) -> Expense:
        nothing = Amount(0.0)
        return Expense(Amount(amount, missing=() if amount is not None else ("gone",)), nothing, nothing, nothing)

    about = metric("bits_per_byte" if lower else "exact_match")
    row = Tradeoff("x", about, [None if y is None else Mark(y, None) for _, y in points])
    sign, best, expected = -1 if lower else 1, float("-inf"), set()
    known = [(x, -sign * y, i) for i, (x, y) in enumerate(points) if x is not None and y is not None]
    for x, down, _ in sorted(known):
        if -down > best:  # cheaper ones are worse: so are all that cost and score the same
            best = -down
            expected |= {i for a, b, i in known if (a, b) == (x, down)}
    assert row.frontier([one(x) for x, _ in points], "flops") == expected


def test_seeds_take_their_mean_and_prices_in_two_currencies_are_not_compared(tmp_path: Path) -> None:
    one, two = (expense(_soup_run(tmp_path / name, GPU).made["soup"], nowhere) for name in "ab")
    dearer = replace(two, flops=Amount(3.6e9, two.flops.how), money=Amount(52.0, two.money.how))
    both = mean([one, dearer])
    assert (both.flops.whole, both.money.whole, both.currency, both.kwh) == (2.4e9, 42.0, "USD", one.kwh)
    abroad = replace(dearer, currency="EUR")
    assert mean([one, abroad]).money == Amount(None, missing=("in EUR and USD, which are not added",))
    partly = replace(one, flops=Amount(1.0, "", ("stage1 is not here",)))
    assert mean([one, partly]).flops == Amount(0.6e9 + 0.5, one.flops.how, ("stage1 is not here",))
    row = Tradeoff("x", metric("exact_match"), [Mark(0.5, None), Mark(0.6, None)])
    assert row.frontier([one, dearer], "money") == {0, 1} and row.frontier([one, abroad], "money") == set()


def test_the_page_draws_those_whose_costs_are_known_and_says_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = _soup_run(tmp_path / "small<b>", GPU), Run(tmp_path / "large", GPU)
    shards = large.add("shards", "shards", "shards", [], seed=7)
    big = large.add(
        "stage1", "checkpoint", "pretrain", [shards], 7, tokens=400, flops=1e10, processes=8, energy_source="estimated"
    )
    other = Run(tmp_path / "alien")
    alien = other.add("model", "checkpoint", "import_hf", [], energy_source="none")
    small.score(small.made["soup"], 0.5)
    large.score(big, 0.4)
    other.score(alien, 0.9)
    out = tmp_path / "page.html"
    assert main(["compare", *map(str, (small.folder, large.folder, other.folder)), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    against = found["against"][0]
    assert (against["score"], against["tasks"]) == ("mean of 2 tasks", ["arithmetic", "chat_math"])
    assert [mark["value"] for mark in against["marks"]] == pytest.approx([0.375, 0.3, 0.675])
    assert against["marks"][0]["error"] == pytest.approx(0.02 / 2**0.5)
    # An hour of eight GPUs is cheaper than of sixteen; of the alien nothing is known, and it is on no frontier.
    assert against["pareto"] == {
        "flops": ["small<b>"],
        "tokens": ["small<b>"],
        "kwh": ["small<b>", "large"],
        "money": ["small<b>", "large"],
    }
    page = out.read_text(encoding="utf-8")
    reader, section = Reader(page), page[page.index('id="against"') : page.index('id="curves"')]
    assert not reader.tags & {"script", "img", "link", "b"} and "small&lt;b&gt;, soup: 37.5 ± 1.4 for 1.2e9" in section
    drawings = re.findall(r"<svg.*?</svg>", section, re.DOTALL)
    assert len(drawings) == 3 * 4 and not any("alien" in drawing for drawing in drawings)  # the mean and both tasks
    assert all(drawing.count("<circle") == 2 for drawing in drawings)
    energy = drawings[2]
    assert energy.count("on the Pareto frontier") == 4 and energy.count("stroke-dasharray") == 1  # titles and label; the line
    text = " ".join("".join(reader.text).split())
    assert "not drawn: alien, model" in text and "alien has no point for" in text and "model: a model of somebody else" in text
    assert "energy: measured by rapl (small<b>); 50 % measured by rapl, 50 % estimated from CPU seconds (large)." in text
    monkeypatch.setattr("lehr.report.against_cost._MOST_DRAWN", 2)
    found_runs = [load(folder, folder.name) for folder in (small.folder, large.folder)]
    fewer = comparison_page(SideBySide.of(found_runs))
    assert "Not drawn: 1 more of the scores" in fewer and fewer.count("against tokens") == 4  # two titles, and what is read out
    assert main(["compare", *map(str, (small.folder, large.folder, other.folder))]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown[shown.index("Scores against costs") :].splitlines()]
    assert ["alien,", "model", "67.5", "±", "1.4", *["not", "known"] * 4, "–"] in rows
    assert ["small<b>,", "soup", "37.5", "±", "1.4", "1.2e9", "120", "6", "kWh", "32", "all"] in [
        [w.replace("6.00", "6").replace("32.0", "32").replace("1.20e9", "1.2e9") for w in row] for row in rows
    ]


def test_scores_elsewhere_lead_to_the_model_where_it_is(tmp_path: Path) -> None:
    """`lehr eval` wrote beside a run's artifacts, and the run was moved since."""
    run = _soup_run(tmp_path / "before", GPU)
    Run(run.folder / "evals").score(run.made["soup"], 0.5)
    shutil.move(run.folder, tmp_path / "run")
    found = model_of(load(tmp_path / "run/evals", "evals"), "soup", nowhere)
    assert found is not None and found.folder == tmp_path / "run/artifacts/soup-1"
    assert isinstance(found.ref, ArtifactRef) and expense(found, nowhere).flops.whole == 1.2e9


def test_what_the_terminal_is_too_narrow_for_is_stacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for name, value in (("first", 0.5), ("second-with-a-long-name", 0.7)):
        run = _soup_run(tmp_path / name, GPU)
        run.score(run.made["soup"], value)
        (run.folder / "recipe.yaml").write_text(json.dumps({**run.recipe, "x": name}))
        folders.append(run.folder)
    found = SideBySide.of([load(folder, folder.name) for folder in folders])
    written = io.StringIO()
    for module in ("lehr.cli.tables", "lehr.cli.compared"):
        monkeypatch.setattr(f"{module}.console", lambda: Screen(file=written, width=80))
    shown(found, by_stage=True, markdown=False)
    text = written.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"second-with-a-long-name − first\s*\nscore +difference +95 % interval +p +detectable", text)
    assert re.search(r"arithmetic, exact.* +\+20\.0 \* +\[14\.4, 25\.6\]( independent)? +< 0\.001 +7\.9", text), text
