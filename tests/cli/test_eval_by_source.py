"""`lehr eval` of texts by source: what is printed, what trackers are told, what `lehr compare` makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.runtime.ports import NullTracker
from lehr.stages import evaluate

TASKS = Path(__file__).resolve().parents[2] / "docs" / "tasks"


class _Told(NullTracker):
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        self.records += records


def _copied(folder: Path, **changes: Any) -> str:
    """The example's task with other keys."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(TASKS / "by_source.jsonl", folder / "by_source.jsonl")
    said = yaml.safe_load((TASKS / "by_source.yaml").read_text(encoding="utf-8"))
    (folder / "by_source.yaml").write_text(yaml.safe_dump({**said, **changes}), encoding="utf-8")
    return str(folder / "by_source.yaml")


def test_texts_are_scored_by_source_and_compared_by_source(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, run = tmp_path / "one", tmp_path / "other", tmp_path / "run"
    shutil.copytree(trained, run)
    assert main(["eval", str(run), "--tasks", f"{TASKS / 'by_source.yaml'},prose_by_source", "--out", str(one)]) == 0
    said = capsys.readouterr()
    assert "by_source, held_out, by source" in said.out and "prose_by_source, held_out, by source" in said.out
    lines = [line.split("  ") for line in said.out.splitlines()]
    assert {"kitchen", "log", "workshop"} <= {cells[0] for cells in lines}
    assert {"bread", "soup", "harbour", "lighthouse"} <= {cells[1] for cells in lines if len(cells) > 1 and not cells[0]}
    assert "the training documents were not compared with the texts of: by_source" in said.err
    records = {(r["task"], r["metric"]): r for r in json.loads((one / "scores.json").read_text())}
    pooled = records["by_source", "bits_per_byte"]
    assert [(p["source"], p["domain"]) for p in pooled["parts"]][:3] == [
        ("kitchen", ""),
        ("kitchen", "bread"),
        ("kitchen", "soup"),
    ]
    assert "parts" not in records["by_source", "bits_per_byte_over_domains"]
    # What a tracker is told has no sources: they would be a series each.
    told = _Told()
    [folder] = (one / "artifacts").glob("scores-*")
    config: Any = type("Config", (), {"model": "stage1"})
    evaluate.announce(config, Artifact.open(folder), told)
    assert len(told.records) == len(records) == 10 and not any("parts" in record for record in told.records)
    assert {record["metric"].partition("@")[0] for record in told.records} == {metric for _, metric in records}  # type: ignore[attr-defined]
    # The same texts in other windows: every source and every mean is compared, text by text.
    assert main(["eval", str(run), "--tasks", _copied(tmp_path / "wide", window=16, stride=16), "--out", str(other)]) == 0
    capsys.readouterr()
    shutil.copytree(one, tmp_path / "again")
    for first, second, how in ((one, tmp_path / "again", "paired"), (one, other, "independent")):
        assert main(["compare", str(first), str(second), "--json"]) == 0
        rows = {r["metric"]: r for r in json.loads(capsys.readouterr().out)["scores"] if r["task"] == "by_source"}
        assert {"bits_per_byte@kitchen", "bits_per_byte@log", "bits_per_byte_over_domains", "perplexity"} <= rows.keys()
        assert all(row["differences"][0]["how"] == how for row in rows.values()), rows
    assert rows["bits_per_byte"]["differences"][0]["value"] != 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": 129}, "windows of 129 tokens are more than the model's context of 128. Lower the task's `window` to 128"),
        ({"window": 32, "stride": 64}, "windows of 32 tokens that advance by 64 leave tokens out. Lower it to 32 or less."),
        ({"source": "sauce"}, "by_source.jsonl:1: source: no field `sauce` in this row; it has source, domain, text."),
    ],
)
def test_what_cannot_be_read_is_said_before_any_work(
    changes: dict[str, Any], says: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["eval", str(trained), "--tasks", _copied(tmp_path / "t", **changes), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1 and says in said.err, said.err
    assert not out.exists()
