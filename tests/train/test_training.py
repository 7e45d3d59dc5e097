"""The loop, its resume files and its ranks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.distributed import ranks
from lehr.distributed.ranks import run_ranks
from lehr.runtime.errors import InfraError, UserError
from lehr.train.checkpointing.resume_state import ResumeFiles

sys.path.insert(0, str(Path(__file__).parent))
import pieces


def _log(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "out" / "logs" / "curves.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_it_learns_and_a_poisoned_step_changes_nothing(tmp_path: Path) -> None:
    state = pieces.run(tmp_path)
    rows = _log(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
    assert rows[7]["skipped"] == 1  # step 7's gradient held a NaN
    assert torch.isfinite(state.optimizer.flat.values).all()
    assert state.optimizer.updates == 30 - sum("skipped" in row for row in rows)


@pytest.mark.parametrize("stops", [[3], [4], [13, 14, 21], [29, 29]])
def test_a_killed_run_ends_bit_identical(tmp_path: Path, stops: list[int]) -> None:
    whole = pieces.run(tmp_path / "whole")
    for stop in stops:
        with pytest.raises(pieces.Stop):
            pieces.run(tmp_path / "cut", stop)
    cut = pieces.run(tmp_path / "cut")
    ours, theirs = whole.tensors(), cut.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert _log(tmp_path / "whole") == _log(tmp_path / "cut")


def test_a_damaged_resume_file_falls_back_to_the_one_before(tmp_path: Path) -> None:
    whole = pieces.run(tmp_path / "whole")
    with pytest.raises(pieces.Stop):
        pieces.run(tmp_path / "cut", 23)
    newest = sorted((tmp_path / "cut" / "resume").glob("*.safetensors"))[-1]
    raw = bytearray(newest.read_bytes())
    raw[-5] ^= 1
    newest.write_bytes(bytes(raw))
    found = ResumeFiles(tmp_path / "cut" / "resume").newest()
    assert found is not None
    assert int(found[0]["step"]) == 16
    cut = pieces.run(tmp_path / "cut")
    assert torch.equal(whole.optimizer.flat.values, cut.optimizer.flat.values)
    assert _log(tmp_path / "whole") == _log(tmp_path / "cut")


def test_two_ranks_train_as_one_does(tmp_path: Path) -> None:
    one, two = (torch.tensor(run_ranks(world, 1, pieces.on_ranks, tmp_path / str(world))) for world in (1, 2))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    for a, b in zip(_log(tmp_path / "1"), _log(tmp_path / "2"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["tokens"] == b["tokens"]
    again = torch.tensor(run_ranks(2, 1, pieces.on_ranks, tmp_path / "again"))
    assert torch.equal(two, again)


def test_ranks_share_and_weave() -> None:
    assert run_ranks(2, 1, pieces.weave) == [10 * x for x in range(11)]


def test_another_ranks_error_surfaces_as_itself() -> None:
    with pytest.raises(UserError, match="no such thing"):
        run_ranks(2, 1, pieces.fails_on_rank_one, "raises")


def test_a_killed_rank_is_the_machines_fault_and_no_hang() -> None:
    with pytest.raises(InfraError, match="rank died"):
        run_ranks(2, 1, pieces.fails_on_rank_one, "killed")


def test_a_rank_that_dies_before_it_begins_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ranks._start_helper

    def dies(*arguments: Any) -> ranks.Helper:
        helper = start(*arguments)
        helper[0].kill()
        return helper

    monkeypatch.setattr(ranks, "_start_helper", dies)
    with pytest.raises(InfraError, match="rank died"):
        run_ranks(2, 1, pieces.weave)
