"""Runs side by side."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from lehr.analysis.comparison import averaged, one_recipe, settings_that_differ
from lehr.analysis.runs import load
from lehr.analysis.side_by_side import SideBySide
from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost
from lehr.cli.main import main
from lehr.report.compared import comparison_page
from tests.report.test_report import Reader


def _run(folder: Path, values: dict[str, float]) -> Path:
    folder.mkdir(parents=True)
    row = {"task": "arithmetic", "split": "held_out", "metric": "exact_match", "stderr": 0.1, "n": 10, "seed": 1}
    (folder / "scores.json").write_text(json.dumps([{**row, "stage": s, "value": v} for s, v in values.items()]))
    return folder


def _made(stage: str, parent: str, **config: object) -> dict[str, object]:
    parents = [{"stage": parent, "digest": f"digest of {parent}"}] if parent else []
    return {"stage": stage, "kind": "checkpoint", "parents": parents, "config": {"lr": 1.0, **config}}


LINEAGE = [
    _made("stage1", ""),
    _made("anneal-1", "stage1", data_seed=1),
    _made("anneal-2", "stage1", data_seed=2),
    _made("anneal-2-300B", "stage1", data_seed=2, tokens=300),  # more than its seed is different
    _made("soup", "anneal-1"),
    _made("rlvr-1", "soup", data_seed=2),
    _made("rlvr-2", "rlvr-1", data_seed=1),
]


def _table(*folders: Path) -> list[str]:
    return averaged(folders).markdown().splitlines()


def test_seeds_are_averaged_and_runs_have_a_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _run(tmp_path / "a", {"stage1": 0.0, "anneal-1": 0.5, "anneal-2": 0.7, "soup": 0.8})
    second = _run(tmp_path / "b", {"stage1": 0.2, "anneal-1": 0.6, "anneal-2": 0.8, "soup": 1.0})
    assert _table(first, second)[0] == "| task, metric | stage1 | anneal-1 | anneal-2 | soup |"  # nothing is known of them
    for folder in (first, second):
        (folder / "lineage.json").write_text(json.dumps(LINEAGE))
    lines = _table(first, second)
    assert lines[0] == "| task, metric | stage1 | anneal (mean of seeds) | soup |"
    assert lines[2] == "| arithmetic, exact_match | 0.100 ± 0.141 | 0.650 ± 0.071 | 0.900 ± 0.141 |"
    others = _run(tmp_path / "c", {"anneal-2-300B": 0.1, "rlvr-1": 0.2, "rlvr-2": 0.3})
    (others / "lineage.json").write_text(json.dumps(LINEAGE))
    assert _table(others)[0] == "| task, metric | anneal-2-300B | rlvr-1 | rlvr-2 |"
    assert main(["compare", str(first), str(second), "--markdown"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_runs_of_different_recipes_are_never_averaged(tmp_path: Path) -> None:
    def run(name: str, lineage: list[dict[str, object]]) -> Path:
        folder = _run(tmp_path / name, {"stage1": 0.5})
        (folder / "lineage.json").write_text(json.dumps(lineage))
        return folder

    first = run("a", [_made("stage1", "", init_seed=1, parallel={"processes": 2}), _made("anneal-42", "stage1", data_seed=1)])
    again = run("b", [_made("stage1", "", init_seed=2, parallel={"processes": 1}), _made("anneal-7", "stage1", data_seed=2)])
    assert one_recipe([first, again]) and "0.500 ± 0.000" in _table(first, again)[2]
    longer = run("c", [_made("stage1", "", init_seed=3, tokens=9, lr=2.0), _made("anneal-42", "stage1", lr=2.0)])
    shorter = run("d", [_made("stage1", "", init_seed=1)])
    unknown = _run(tmp_path / "e", {"stage1": 0.5})
    asked = [
        run(
            f"{digest}{seed}",
            [_made("stage1", "", init_seed=seed), {**_made("scores", "stage1"), "kind": "scores", "config": scored}],
        )
        for seed, digest in enumerate(("1f", "1f", "2e"))
        if (scored := {"model": "stage1", "tasks": [{"task": f"mine@{digest}", "limit": 5}], "seed": seed})
    ]
    assert one_recipe(asked[:2]) and not one_recipe(asked[1:])  # a task whose file changed asks something else
    assert not any(one_recipe([first, other]) for other in (longer, shorter, unknown))
    found = SideBySide.of([load(folder, folder.name) for folder in (longer, first, unknown, again)])
    assert [group.name for group in found.groups] == ["c", "2 seeds: a, b", "e"]
    assert [len(row.standings) for row in found.scores] == [3]


def test_settings_that_differ_are_grouped_with_the_values_of_each() -> None:
    one = {"name": "a", "seed": 1, "stage1": {"optim": {"lr": 1.0}, "tokens": 5}, "anneals": {"count": 3}}
    other = {"name": "b", "seed": 2, "stage1": {"optim": {"lr": 2.0}, "tokens": 5}}
    found = settings_that_differ([[one], [other, {**other, "seed": 3}]])
    assert {section: [(row.key, row.values) for row in rows] for section, rows in found.items()} == {
        "seed": [("seed", ["1", "2, 3"])],
        "stage1": [("stage1.optim.lr", ["1.0", "2.0"])],
        "anneals": [("anneals.count", ["3", "–"])],
    }


ANSWERS = {"a": [1.0, 0.0, 1.0, 0.0, 1.0], "b": [1.0, 1.0, 1.0, 0.0, 1.0]}


def _made_run(folder: Path, answers: Sequence[float], examples: str = "x", speed: float = 0.5) -> Path:
    """An artifact of training with a log, and one of scores with what each example gave."""
    made = folder / "artifacts" / "stage1-1"
    (made / "logs").mkdir(parents=True)
    rows = [{"step": s, "tokens": 8 * s, "loss": 4.0 - s / 10, "seconds": speed} for s in range(1, 21)]
    (made / "logs/curves.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cost = Cost(seconds=12, tokens=160, flops=1e9, energy_joules=720, energy_source="rapl")
    ref = _sealed(made, "checkpoint", [], cost)
    scores = folder / "artifacts" / "scores-stage1-1"
    scores.mkdir()
    said = {"stage": "stage1", "task": "arithmetic", "split": "held_out", "metric": "exact_match"}
    mean, n = sum(answers) / len(answers), len(answers)
    error = math.sqrt(mean * (1 - mean) / (n - 1))
    (scores / "scores.json").write_text(
        json.dumps([{**said, "value": mean, "stderr": error, "n": n, "clusters": n, "seed": 1}])
    )
    (scores / "items.jsonl").write_text(
        json.dumps({**said, "examples": examples, "values": answers, "weights": [], "clusters": []})
    )
    _sealed(scores, "scores", [ref], Cost(seconds=1))
    return folder


def _sealed(folder: Path, kind: str, parents: list[ArtifactRef], cost: Cost) -> ArtifactRef:
    name = folder.name.removesuffix("-1")
    made = Artifact.seal(
        folder, kind=kind, stage=name, fingerprint="f", parents=parents, config={}, code="c", meta={}, cost=cost
    )  # type: ignore[arg-type]
    return made.ref


def _differences(*folders: Path) -> list[dict[str, object]]:
    found = SideBySide.of([load(folder, folder.name) for folder in folders]).json()
    return [found["scores"][0]["differences"][0], found["runs"][1]]


def test_differences_are_paired_where_both_answered_the_same_examples(tmp_path: Path) -> None:
    first = _made_run(tmp_path / "a", ANSWERS["a"])
    paired, took = _differences(first, _made_run(tmp_path / "b", ANSWERS["b"], speed=0.25))
    # The differences are 0 1 0 0 0: 0.2 with the error sqrt(0.2 x 0.8 / 4) = 0.2, and Student's t of 4 degrees is 2.776.
    assert (paired["how"], paired["n"]) == ("paired", 5) and paired["value"] == pytest.approx(0.2)
    assert (paired["low"], paired["high"]) == (
        pytest.approx(0.2 - 2.7764 * 0.2, rel=1e-4),
        pytest.approx(0.2 + 2.7764 * 0.2, rel=1e-4),
    )
    assert (took["tokens_per_second"], took["energy_joules"], took["seconds"]) == (160 / 5, 720, 13)
    others, _ = _differences(first, _made_run(tmp_path / "c", ANSWERS["b"], examples="y"))
    # Errors sqrt(0.6 x 0.4 / 4) and sqrt(0.8 x 0.2 / 4), as of two samples.
    assert others["how"] == "independent" and others["high"] == pytest.approx(
        0.2 + 2.7764 * math.hypot(0.24**0.5, 0.16**0.5) / 2, rel=1e-4
    )
    unknown = _run(tmp_path / "d", {"soup": 0.4})
    assert _differences(first, unknown)[0]["how"] == "independent"  # a run of an earlier version has no items


def test_stages_of_one_run_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _made_run(tmp_path / "run", ANSWERS["a"])
    rows = _made_run(tmp_path / "other", ANSWERS["b"]) / "artifacts" / "scores-stage1-1"
    sft = run / "artifacts" / "scores-sft-1"
    shutil.copytree(rows, sft)
    for name in ("scores.json", "items.jsonl"):
        (sft / name).write_text((rows / name).read_text().replace("stage1", "sft"))
    _sealed(sft, "scores", [], Cost(seconds=1))
    assert main(["compare", str(run), "--stage", "stage1", "--stage", "sft", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [row] = found["scores"]
    assert [group["scored"] for group in found["groups"]] == ["stage1", "sft"]
    assert (row["differences"][0]["how"], row["differences"][0]["p_value"]) == ("paired", 1.0)  # of 5 one differs
    assert main(["compare", str(run), "--stage", "sft", "--stage", "sft"]) == 2
    assert "nothing to be compared with in itself" in capsys.readouterr().err


def test_differences_of_seed_groups_are_over_their_runs(tmp_path: Path) -> None:
    def seed(name: str, value: float, **config: object) -> Path:
        folder = _run(tmp_path / name, {"stage1": value})
        (folder / "lineage.json").write_text(json.dumps([_made("stage1", "", seed=value, **config)]))
        return folder

    one, two = [seed(f"a{v}", v) for v in (0.5, 0.6)], [seed(f"b{v}", v, lr=2.0) for v in (0.9, 0.8)]
    [both] = SideBySide.of([load(f, f.name) for f in (*one, *two)]).scores
    found = both.differences[0]
    # Standard deviations 0.0707 each: an error of sqrt(0.005 / 2 + 0.005 / 2), and Welch's degrees of freedom are 2.
    assert found is not None and found.how == "over seeds" and found.value == pytest.approx(0.3) and found.is_clear is False
    assert found.high == pytest.approx(0.3 + 4.303 * math.sqrt(0.005), rel=1e-3)
    [single] = SideBySide.of([load(f, f.name) for f in (*one, two[0])]).scores
    alone = single.differences[0]  # as if its seeds spread like the others': sqrt(0.005 / 2 + 0.005), one degree of freedom
    assert alone is not None and alone.high == pytest.approx(0.35 + 12.706 * math.sqrt(0.0075), rel=1e-3)
    equal = [seed(f"c{i}", 0.7, lr=3.0 + 0 * i) for i in (1, 2)]
    [same] = SideBySide.of([load(f, f.name) for f in (*equal, two[0])]).scores
    assert same.differences[0] is not None and same.differences[0].low is None  # two equal values say nothing of a third


def test_a_page_with_curves_over_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, other = _made_run(tmp_path / "a<b>", ANSWERS["a"]), _made_run(tmp_path / "b", ANSWERS["b"], speed=0.25)
    for folder, lr in ((first, "1.0"), (other, "<i>")):
        (folder / "recipe.yaml").write_text(f"name: x\nstage1:\n  lr: {lr}\n")
    out = tmp_path / "new" / "compare.html"
    assert main(["compare", str(first), str(other), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"page: {out}" in said.err and "+20.0 [−35.5, 75.5] paired" in said.out and "stage1.lr" in said.out
    page = out.read_text()
    reader = Reader(page)
    assert not reader.tags & {"script", "img", "link", "b"} and "default-src 'none'" in page
    text = " ".join("".join(reader.text).split())
    assert "a<b>, b: one run each, whose scores are shown as they are" in text and "b − a<b>" in text
    assert '"<i>"' in text and "a<b>: not finished" in text
    titles = re.findall(r"<h3>(loss[^<]*)", page)
    assert [t.replace("\xa0", " ") for t in titles] == ["loss ↓, over steps", "loss ↓, over tokens", "loss ↓, over time"]
    groups = re.findall(r'role="radiogroup"[^>]*>(.*?)</div>', page, re.S)
    ends = [re.findall(r'aria-label="([^"]+)">', group)[-1].splitlines() for group in groups]
    # Over time the second run ends half way, so that there the first is alone.
    assert ends[0] == ["step: 20", "a&lt;b&gt;: 2.000", "b: 2.000"] and ends[1][0] == "tokens of the stage: 160"
    assert ends[2] == ["seconds in steps: 10", "a&lt;b&gt;: 2.000"]
    assert main(["compare", str(first), str(other), "--out", str(tmp_path)]) == 2
    assert "a folder, where the page is to be written" in capsys.readouterr().err


def test_a_group_of_seeds_alone_is_a_page_too(tmp_path: Path) -> None:
    folders = [_run(tmp_path / name, {"stage1": 0.5}) for name in ("a", "b")]
    for folder in folders:
        (folder / "lineage.json").write_text(json.dumps(LINEAGE[:1]))
    page = comparison_page(SideBySide.of([load(folder, folder.name) for folder in folders]))
    assert "a, b differ in nothing but their seeds" in page and "± 0.0 over 2 seeds" in page and "No run has a log" in page


def test_what_is_missing_is_said_and_the_rest_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, bare = _made_run(tmp_path / "a", ANSWERS["a"]), tmp_path / "bare"
    bare.mkdir()
    (bare / "recipe.yaml").write_text("name: x\n")
    found = SideBySide.of([load(whole, "a"), load(bare, "bare")])
    assert found.runs[0].missing == ["not finished", "no recipe"]
    assert found.runs[1].missing == ["not finished", "no logs of training", "no held-out scores"]
    assert found.scores[0].standings[1] is None and found.scores[0].differences == [None]
    assert "bare: no held-out scores" in comparison_page(found)
    assert main(["compare", str(whole), str(bare)]) == 0
    assert "bare: no held-out scores" in capsys.readouterr().out
    twin = _made_run(tmp_path / "deep" / "a", ANSWERS["a"])
    assert main(["compare", str(whole), str(twin), "--json"]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]] == [str(whole), str(twin)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a",), "one run has nothing to be compared with"),
        (("a", "a"), "a run has nothing to be compared with in itself"),
        (("a", "none"), "none: there is no such folder"),
        (("a", "."), "no run here"),
        (("a", "b", "--stage", "chat"), "no scores of chat here. Scored were stage1: give one of them"),
        (("a", "b", "--json", "--markdown"), "--json and --markdown are two forms"),
        (("a", "damaged"), "items.jsonl: damaged (values.0: Input should be a valid number"),
        (("a", "shorn"), "values, weights and clusters are not equally many"),
    ],
)
def test_what_cannot_be_compared_is_one_message(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "damaged", "shorn"):
        _made_run(tmp_path / name, ANSWERS["a"])
    for name, key in (("damaged", "values"), ("shorn", "clusters")):
        path = tmp_path / name / "artifacts/scores-stage1-1/items.jsonl"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: ["<b>"] if name == "damaged" else [1]}))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err and shown.err.count("\n") == 1
