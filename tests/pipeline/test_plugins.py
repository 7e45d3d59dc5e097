"""What a module of one's own adds runs by its name alone, on every rank, and repeats only what uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lehr.artifacts import fingerprint
from lehr.artifacts.artifact import Artifact
from lehr.artifacts.tensors import read_tensors
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.pipeline.graph import graph
from lehr.pipeline.registry import stage
from lehr.pipeline.run import Identity
from lehr.pipeline.spec import Inputs
from lehr.report.scores import score_matrix
from lehr.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
E2E = ROOT / "tests" / "e2e" / "recipe.yaml"
OWN = "tests.pipeline.own"
FILTER = f"data.filters.own={{function: '{OWN}:no_shouting'}}"
VERIFIER = f"posttraining.rlvr.bonus={{'{OWN}:brief': 0.25, no_prefix: 0.5}}"
STEP = f"posttraining=[{{kind: sft}}, {{kind: '{OWN}:SPEC', name: halved, settings: {{factor: 0.5}}}}]"


def prints(*overrides: str) -> dict[str, str]:
    nodes = graph(load_recipe(E2E, list(overrides)))
    return {node.name: Identity.of(stage(node.kind), node.name, node.config, Inputs({})).print for node in nodes}


def test_only_what_uses_it_has_another_fingerprint() -> None:
    plain = prints()
    for override, changed in ((FILTER, {"documents"}), (VERIFIER, {"rlvr"})):
        now = prints(override)
        assert {name for name in plain if plain[name] != now[name]} == changed
    now = prints(STEP)
    assert "halved" in now and all(now[name] == plain[name] for name in now if name in plain and not name.startswith("scores-"))


def test_its_code_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:

    (tmp_path / "words_of_mine.py").write_text("def check(args, text):\n    return True\n")
    monkeypatch.syspath_prepend(tmp_path)
    override = "posttraining.rlvr.bonus={'words_of_mine:check': 1.0}"
    first = prints(override)["rlvr"]
    (tmp_path / "words_of_mine.py").write_text("def check(args, text):\n    return False\n")
    for cached in (
        fingerprint._version,
        fingerprint._tree,
        fingerprint._own,
        fingerprint._reachable,
    ):
        cached.cache_clear()
    assert prints(override)["rlvr"] != first


@pytest.mark.parametrize("text", ["def check(:\n", "raise RuntimeError('mine')\n", "1 / 0\n", "import nowhere_at_all\n"])
def test_a_module_of_ones_own_that_cannot_be_loaded_is_named(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="verifier 'broken_of_mine:check'") as caught:
        graph(load_recipe(E2E, ["posttraining.rlvr.bonus={'broken_of_mine:check': 1.0}"]))
    assert caught.value.__cause__ is not None  # LEHR_DEBUG=1 shows where in it


@pytest.mark.long
def test_a_filter_a_verifier_and_a_kind_of_stage_run_on_two_ranks(tmp_path: Path) -> None:
    steps = STEP[:-1] + ", {kind: grpo, name: rlvr, parent: sft}]"
    sets = [FILTER, steps, VERIFIER, "ramp=null", "anneals=null", "evaluation.tasks=[{task: arithmetic, limit: 2}]"]
    out = tmp_path / "run"
    arguments = [part for override in sets for part in ("--set", override)]
    assert main(["run", str(E2E), "--out", str(out), "--no-mlflow", *arguments]) == 0
    found = {p.name.rsplit("-", 1)[0]: Artifact.open(p) for p in (out / "artifacts").iterdir() if p.is_dir()}
    assert json.loads(found["documents"].path("funnel.json").read_text())["bible"]["dropped"]["shouting"] > 0
    weights = {name: read_tensors(found[name].path("model.safetensors")) for name in ("sft", "halved")}
    assert all(bool((weights["sft"][name] * 0.5 == weights["halved"][name]).all()) for name in weights["sft"])
    rows = [json.loads(line) for line in found["rlvr"].path("logs/curves.jsonl").read_text().splitlines()]
    assert any(row["reward"] > 0 for row in rows)  # nothing is right yet, but brief or to the point
    assert found["halved"].manifest.stage_kind == "halve"
    assert "halved" in (out / "report.html").read_text()


def test_settings_that_the_kind_does_not_take_are_refused() -> None:
    for settings, says in (("{factor: x}", "factor"), ("{}", "factor"), ("{factor: 1.0, other: 2}", "other")):
        step = f"posttraining=[{{kind: '{OWN}:SPEC', name: halved, settings: {settings}}}]"
        with pytest.raises(UserError, match=f"posttraining.halved.settings.{says}"):
            graph(load_recipe(E2E, [step]))


def test_a_metric_shows_with_its_title_and_direction() -> None:
    import tests.pipeline.own  # noqa: F401 - declares it

    records = [
        {"stage": name, "task": "t", "split": "dev", "metric": "shoutiness", "value": value, "n": 1}
        for name, value in (("a", 0.4), ("b", 0.2))
    ]
    table = score_matrix(records)
    (column,) = table.columns
    assert column.about.title == "share of capitals" and column.about.is_share and table.best(column) == {"b"}
