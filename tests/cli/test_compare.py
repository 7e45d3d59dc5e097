"""`lehr compare` on a real run, and on what is left of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lehr.cli.main import main


def test_a_run_and_its_unfinished_copy_are_compared_item_by_item(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, bare = tmp_path / "again", tmp_path / "bare"
    shutil.copytree(trained, again)
    for name in ("report.html", "lineage.json", "scores.json"):
        (again / name).unlink()
    shutil.copytree(again, bare)
    shutil.rmtree(next((bare / "artifacts").glob("scores-stage1-*")))
    out = tmp_path / "page.html"
    capsys.readouterr()
    assert main(["compare", str(trained), str(again), str(bare), "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["missing"][:1] for run in found["runs"][:2]] == [[], ["not finished"]]
    assert found["runs"][2]["missing"][0].endswith("1 are not made, scores-stage1")
    rows = {(row["task"], row["metric"]): row["differences"] for row in found["scores"]}
    assert {("prose", "bits_per_byte"), ("arithmetic", "exact_match")} <= set(rows)
    for same, none in rows.values():
        assert (same["how"], same["value"], same["low"], same["p_value"]) == ("paired", 0.0, None, None) and none is None
        assert same["note"].startswith("none of 4 differs")  # which does not make them equal
    assert found["settings"] == {} and found["runs"][0]["tokens_per_second"] > 0
    page = out.read_text(encoding="utf-8")
    assert page.count("<h3>loss") == 3 and "bare: no held-out scores" in page
