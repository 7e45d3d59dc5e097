"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lehr.analysis.comparison import averaged, one_recipe, side_by_side, what_differs
from lehr.cli.main import main


def _run(folder: Path, values: dict[str, float]) -> Path:
    folder.mkdir()
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
    assert set(what_differs(first, longer)) == {"lr 1.0 -> 2.0 (anneal-42, stage1)", "tokens is new (stage1)"}
    shorter = run("d", [_made("stage1", "", init_seed=1)])
    assert what_differs(first, shorter) == ["stages such as anneal-42: 1 -> 0"]
    unknown = _run(tmp_path / "e", {"stage1": 0.5})
    assert not any(one_recipe([first, other]) for other in (longer, shorter, unknown))


def test_other_runs_stand_side_by_side_with_their_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _run(tmp_path / "a", {"stage1": 0.0, "soup": 0.4})
    other = _run(tmp_path / "b", {"stage1": 0.5, "chat": 0.75})
    rows = side_by_side([first, other]).rows
    assert rows == [["arithmetic", "exact match, %", "40.0 ± 10.0", "75.0 ± 10.0", "+35.0 ± 14.1 *"]]  # sqrt(2) x 10
    assert side_by_side([other, first], "stage1").rows[0][-1] == "−50.0 ± 14.1 *"
    rows = json.loads((first / "scores.json").read_text())
    (first / "scores.json").write_text(json.dumps([rows[1] | {"stderr": None}]))  # one document: nothing is known
    assert side_by_side([first, other]).rows[0][-1] == "+35.0"
    assert main(["compare", str(first), str(other)]) == 0
    assert "b, chat" in capsys.readouterr().out
    assert main(["compare", str(first), str(other), "--stage", "chat"]) == 2
    assert f"{first}: no scores of chat here. Scored were soup" in capsys.readouterr().err
    assert main(["compare", str(first)]) == 2 and main(["compare", str(first), str(tmp_path / "none")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no scores here" in said.err
