"""Who owns an error of training: what no retry mends is never the machine's, and what the user did is never ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lehr.cli.failure import report_failure
from lehr.config import load_recipe
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.runtime.errors import Bug, UserError
from lehr.train.loop import Sums
from lehr.train.state import TrainState
from tests.train import pieces
from tests.train.corpus import MODEL_320

RECIPE = Path(__file__).resolve().parents[2] / "recipes/tiny/olmo2.yaml"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ["stage1.batch_ramp={start: 1, double_every_tokens: 1000}", "parallel.processes=2"],
            "batch_ramp.start=1 leaves some of parallel.processes=2",
        ),
        (["model.norm_eps=1e300"], "model.norm_eps"),
        (["stage1.optim.eps=1e300"], "stage1.optim.eps"),
        (["stage1.optim.lr=1e39"], "stage1.optim.lr"),
    ],
)
def test_what_no_step_can_take_is_refused_before_any(settings: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPE, settings)
    assert says in str(caught.value)


def both_fail(ranks: Ranks, where: str) -> None:
    """A mistake of ours, on rank 1 while rank 0 waits for it in a sum, or on every rank alike."""
    if ranks.rank == 1 or where == "everywhere":
        raise ValueError("nobody expected this") if where == "rank 1" else RuntimeError("nobody expected this")
    ranks.sum_(torch.ones(3))


@pytest.mark.long
def test_a_mistake_of_ours_on_a_rank_is_no_fault_of_the_machines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Bug, match=r"rank 1 of 2 on .* failed: ValueError: nobody expected this") as caught:
        run_ranks(2, 1, both_fail, "rank 1")
    assert report_failure(caught.value) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    kept = Path(said.rpartition("full traceback: ")[2].rstrip().rstrip(")"))
    assert "in both_fail" in kept.read_text(encoding="utf-8")  # of the rank that it happened on
    kept.unlink()
    with pytest.raises(RuntimeError, match="nobody expected this"):
        run_ranks(2, 1, both_fail, "everywhere")


@dataclass
class WithoutNumbers(pieces.Copying):
    """No loss is a number from step `at` on."""

    state: TrainState
    at: int

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums = pieces.Copying(self.state.model).backward(step, ranks)
        if step >= self.at:
            sums.loss = math.nan
        return sums


@pytest.mark.parametrize(("steps", "at"), [(1, 0), (2, 1), (30, 4), (30, 27), (300, 5)])
def test_a_stage_without_numbers_is_never_sealed(steps: int, at: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training diverged: .*learning rate") as caught:
        pieces.stage(tmp_path, lambda state: WithoutNumbers(state, at), steps=steps)
    assert caught.value.exit_code == 2 and not list(tmp_path.glob("artifacts/*/artifact.json"))
    assert ("of 105 steps" in str(caught.value)) == (steps == 300)  # not the whole stage is waited for


def test_a_last_step_without_a_number_is_a_bad_batch(tmp_path: Path) -> None:
    pieces.stage(tmp_path, lambda state: WithoutNumbers(state, 29))


def test_a_model_without_numbers_is_named_when_it_is_asked() -> None:
    model = Transformer(MODEL_320).initialise(1)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(math.nan)
    broken = LanguageModel(model, SimpleNamespace(eos_id=0, pad_id=0))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="training diverged"):
        broken.generate([[1, 2]], 4, temperature=1.0)
    with pytest.raises(UserError, match="training diverged"):
        broken.logprobs([([1, 2], [3])])
