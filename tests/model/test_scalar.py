"""A scalar head on a policy's backbone: values, gradients, a checkpoint of its own kind, training with resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lehr.artifacts.artifact import Artifact, Cost
from lehr.config.model import Model
from lehr.config.optim import Guard, Optim
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import check_head, load_checkpoint, save_checkpoint
from lehr.train.checkpointing.scalar import load_scalar, save_scalar
from lehr.train.fit import fit
from lehr.train.loop import Plan, Sums
from lehr.train.state import TrainState
from tests.train.pieces import Stop, context

OPTIM = Optim(lr=1e-2, guard=Guard(window=16, sigmas=6.0))
TOKENS_BT = torch.randint(0, 50, (6, 9), generator=torch.Generator().manual_seed(0))


def _config(tied: bool = False) -> Model:
    sizes = {"vocab_size": 50, "n_layers": 2, "d_model": 16, "n_heads": 2, "n_kv_heads": 2, "mlp_hidden": 24}
    return Model(max_seq_len=16, init_std=0.2, tied_embeddings=tied, **sizes)


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_on_a_policys_backbone(tied: bool) -> None:
    policy = Transformer(_config(tied)).initialise(1)
    zero, drawn = ScalarModel.on(policy), ScalarModel.on(policy, seed=4)
    assert torch.equal(zero.values(TOKENS_BT), torch.zeros(6, 9))
    hidden_BTD = policy.hidden(TOKENS_BT)
    assert torch.equal(drawn.hidden(TOKENS_BT), hidden_BTD)
    torch.testing.assert_close(drawn.values(TOKENS_BT), (hidden_BTD * drawn.score.weight[0]).sum(-1))
    assert {name for name, _ in drawn.named_parameters()} == {
        name for name, _ in policy.named_parameters() if not name.startswith("head")
    } | {"score.weight"}
    wide = ScalarModel.on(Transformer(Model(**{**_config().model_dump(), "d_model": 1024})), seed=4).score.weight
    assert float(wide.detach().std()) == pytest.approx(1 / 1025**0.5, rel=0.1)
    assert torch.equal(ScalarModel.on(policy, seed=4).score.weight, drawn.score.weight)
    later_BT = TOKENS_BT.clone()
    later_BT[:, 5:] = 3
    torch.testing.assert_close(drawn.values(later_BT)[:, :5], drawn.values(TOKENS_BT)[:, :5])


def test_the_gradient_is_the_head_times_the_states_and_a_finite_difference() -> None:
    model = ScalarModel.on(Transformer(_config()).initialise(1), seed=4)
    c_BT = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
    (model.values(TOKENS_BT) * c_BT).sum().backward()
    by_hand = (model.hidden(TOKENS_BT) * c_BT[..., None]).sum(dim=(0, 1))
    torch.testing.assert_close(model.score.weight.grad[0], by_hand, rtol=1e-4, atol=1e-5)
    weight, grad = model.layers[0].mlp.down.weight, model.layers[0].mlp.down.weight.grad
    towards, step = grad / grad.norm(), 1e-2
    with torch.no_grad():
        sums = []
        for sign in (1, -1):
            weight += sign * step * towards
            sums.append(float((model.values(TOKENS_BT) * c_BT).double().sum()))
            weight -= sign * step * towards
    assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float(grad.norm()), rel=1e-2)


class CountsLow:
    """Regression of how many low tokens were seen so far."""

    extras: tuple[str, ...] = ()

    def __init__(self, state: TrainState, stop: int = -1) -> None:
        self.model, self.stop = state.named("model", ScalarModel), stop

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == self.stop:
            raise Stop
        tokens_BT = torch.randint(0, 50, (16, 8), generator=torch.Generator().manual_seed(step))
        wanted_BT = (tokens_BT < 25).float().cumsum(dim=1) / 8
        loss = (self.model.values(tokens_BT) - wanted_BT).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return Sums(float(loss.detach()), float(tokens_BT.numel()), tokens_BT.numel(), {})


def _train(folder: Path, stop: int = -1) -> TrainState:
    state = TrainState.fresh(ScalarModel.on(Transformer(_config()).initialise(1), seed=4), OPTIM)
    return fit(context(folder), Ranks(), state, CountsLow(state, stop), Plan(60, lambda *_: 1e-2, lambda *_: 1.0, 10))


def test_it_learns_a_regression_and_goes_on_after_a_stop_with_the_same_bits(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole/curves.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])
    with pytest.raises(Stop):
        _train(tmp_path / "cut", stop=37)
    assert torch.equal(_train(tmp_path / "cut").whole.flat.values, whole.whole.flat.values)


def _sealed(folder: Path) -> Artifact:
    return Artifact.seal(
        folder, kind="checkpoint", stage="t", fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost()
    )


def test_its_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    """Either loader refuses the other's; a language model's model.json is what it always was."""
    Tokenizer.train(["a b c " * 50], 300).save(tmp_path)
    config = Model(**{**_config().model_dump(), "vocab_size": 300})
    policy = Transformer(config).initialise(1)
    value = ScalarModel.on(policy, seed=4)
    save_scalar(tmp_path / "value", config, TrainState.fresh(value, OPTIM).weights(), tmp_path)
    save_checkpoint(tmp_path / "policy", config, TrainState.fresh(policy, OPTIM).weights(), tmp_path, chat=True)
    ours, theirs = _sealed(tmp_path / "value"), _sealed(tmp_path / "policy")
    assert json.loads(ours.path("model.json").read_text())["head"] == "scalar"
    assert json.loads(theirs.path("model.json").read_text()).keys() == {"architecture", "tokenizer", "chat"}
    assert torch.equal(load_scalar(ours).model.values(TOKENS_BT), value.values(TOKENS_BT))
    assert torch.equal(load_checkpoint(theirs).model(TOKENS_BT), policy(TOKENS_BT))
    with pytest.raises(UserError, match="is a value or reward model, and a language model is needed"):
        load_checkpoint(ours)
    with pytest.raises(UserError, match="is a language model, and a value or reward model is needed"):
        load_scalar(theirs)
    with pytest.raises(UserError, match="a language model is needed"):
        check_head(ours.folder, "language")
