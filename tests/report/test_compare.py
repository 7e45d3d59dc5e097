"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lehr.analysis.comparison import compare, main


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


def test_seeds_are_averaged_and_runs_have_a_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _run(tmp_path / "a", {"stage1": 0.0, "anneal-1": 0.5, "anneal-2": 0.7, "soup": 0.8})
    second = _run(tmp_path / "b", {"stage1": 0.2, "anneal-1": 0.6, "anneal-2": 0.8, "soup": 1.0})
    lines = compare([first, second]).splitlines()
    assert lines[0] == "| task, metric | stage1 | anneal-1 | anneal-2 | soup |"  # without lineage every stage is its own
    for folder in (first, second):
        (folder / "lineage.json").write_text(json.dumps(LINEAGE))
    lines = compare([first, second]).splitlines()
    assert lines[0] == "| task, metric | stage1 | anneal (mean of seeds) | soup |"
    assert lines[2] == "| arithmetic, exact_match | 0.100 ± 0.141 | 0.650 ± 0.071 | 0.900 ± 0.141 |"
    others = _run(tmp_path / "c", {"anneal-2-300B": 0.1, "rlvr-1": 0.2, "rlvr-2": 0.3})
    (others / "lineage.json").write_text(json.dumps(LINEAGE))
    assert compare([others]).splitlines()[0] == "| task, metric | anneal-2-300B | rlvr-1 | rlvr-2 |"
    assert main([str(tmp_path / "none")]) == 2
    assert "no scores here" in capsys.readouterr().err


def test_runs_of_different_recipes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(name: str, lineage: list[dict[str, object]]) -> Path:
        folder = _run(tmp_path / name, {"stage1": 0.5})
        (folder / "lineage.json").write_text(json.dumps(lineage))
        return folder

    first = run("a", [_made("stage1", "", init_seed=1, parallel={"processes": 2}), _made("anneal-42", "stage1", data_seed=1)])
    again = run("b", [_made("stage1", "", init_seed=2, parallel={"processes": 1}), _made("anneal-7", "stage1", data_seed=2)])
    assert "0.500 ± 0.000" in compare([first, again])
    longer = run("c", [_made("stage1", "", init_seed=3, tokens=9), _made("anneal-42", "stage1", data_seed=1)])
    assert main([str(first), str(longer)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "tokens of stage1 is null and 9" in said.err
    for name, lineage, what in (
        ("d", [_made("stage1", "", init_seed=1)], "1 and 0 stages such as anneal-42"),
        ("e", [_made("stage1", ""), _made("ramp", "stage1")], "1 and 0 stages such as anneal-42"),
    ):
        assert main([str(first), str(run(name, lineage))]) == 2
        assert what in capsys.readouterr().err
