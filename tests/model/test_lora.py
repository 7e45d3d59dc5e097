"""Low-rank adapters: what is trained, what is kept for it, and that a merged model is the adapted one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lehr.artifacts.artifact import Artifact, Cost
from lehr.config import load_recipe
from lehr.config.lora import Lora
from lehr.config.model import Model
from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.lora import adapt, adapted, base_of, plain_weights
from lehr.model.packed import packed
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.grpo import GrpoObjective
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint
from lehr.train.loop import Objective
from lehr.train.state import TrainState
from tests.post import training

TOKENS_BT = torch.randint(0, 300, (4, 12), generator=torch.Generator().manual_seed(0))
LORA = Lora(rank=3, alpha=6.0)


def _moved(model: Transformer) -> Transformer:
    """With adapters that are not zero, as after training."""
    with torch.no_grad():
        for i, (name, parameter) in enumerate(model.named_parameters()):
            if name.endswith("lora_b"):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    return model


def _model(**changes: object) -> Transformer:
    return Transformer(Model(**{**training.MODEL.model_dump(), **changes})).initialise(1)


@pytest.mark.parametrize(
    "changes", [{}, {"tied_embeddings": True}, {"family": "stablelm", "qkv_bias": True}], ids=["olmo2", "tied", "biased"]
)
def test_a_merged_model_is_the_adapted_one(changes: dict[str, object], tmp_path: Path) -> None:
    """Logits of the formula y = x W^T + alpha / rank x A^T B^T, of the merged checkpoint as it is read again, and of the copy
    that samples; before the first update they are the parent's to the bit, and the reference is it afterwards."""
    parent, model = _model(**changes), adapt(_model(**changes), LORA, seed=5)
    assert adapted(model) and not adapted(parent)
    with torch.no_grad():
        before = parent(TOKENS_BT)
        assert torch.equal(model(TOKENS_BT), before)
        found = _moved(model)(TOKENS_BT)
        assert float((found - before).abs().max()) > 0.1
        reference = base_of(model)
        assert torch.equal(reference(TOKENS_BT), before) and torch.equal(model(TOKENS_BT), found)
    layer = model.layers[0].attention.qkv
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    update = 6.0 / 3 * layer.lora_b @ layer.lora_a
    expected = x @ (layer.weight + update).T + (0.0 if layer.bias is None else layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    save_checkpoint(tmp_path, model.config, plain_weights(model), training.TOKENIZER, chat=True)
    cost = Cost(seconds=0.0, attempts=1)
    sealed = Artifact.seal(
        tmp_path, kind="checkpoint", stage="t", fingerprint="f", parents=[], config={}, code="", meta={}, cost=cost
    )
    merged = load_checkpoint(sealed).model
    assert [name for name, _ in merged.named_parameters()] == [name for name, _ in parent.named_parameters()]
    with torch.no_grad():
        torch.testing.assert_close(merged(TOKENS_BT), found, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(packed(model, 4, 1)(TOKENS_BT), found, rtol=1e-5, atol=1e-5)
    prompts = [[5, 6, 7], [8, 9]]
    again = LanguageModel(merged, training.TOKENIZER, chat=True).generate(prompts, 6, [0], 0.7, 3)
    assert LanguageModel(model, training.TOKENIZER, chat=True).generate(prompts, 6, [0], 0.7, 3) == again


def test_only_adapters_get_gradients_and_optimiser_state() -> None:
    """Of a width like a real model's: a few percent of the parameters, and of the optimiser's memory."""
    wide = {"d_model": 128, "n_heads": 4, "n_kv_heads": 4, "mlp_hidden": 352, "n_layers": 4}
    whole, model = TrainState.fresh(_model(**wide), training.OPTIM), adapt(_model(**wide), LORA, seed=5)
    state = TrainState.fresh(model, training.OPTIM)
    model(TOKENS_BT).square().mean().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert names == {name for name, _ in state.whole.flat.order} == {n for n, _ in model.named_parameters() if "lora" in n}
    assert len(names) == 4 * 4 * 2
    by_hand = 4 * 3 * ((128 + 3 * 128) + (128 + 128) + (128 + 2 * 352) + (352 + 128))  # layers, rank, in + out of each
    assert state.whole.flat.values.numel() == by_hand
    kept = [sum(t.numel() for t in s.tensors().values()) for s in (state, whole)]
    assert kept[0] < 0.04 * kept[1]  # also what a save holds


def test_a_value_models_head_is_trained_beside_its_adapters() -> None:
    value = adapt(ScalarModel.on(_model()), LORA, seed=5)
    trained = {name for name, p in value.named_parameters() if p.requires_grad}
    assert "score.weight" in trained and all("lora" in name for name in trained - {"score.weight"})


@pytest.mark.parametrize(("targets", "names"), [(["qkv"], {"qkv"}), (["out", "down"], {"out", "down"})])
def test_targets_are_what_is_named(targets: list[str], names: set[str]) -> None:
    model = adapt(_model(), Lora(targets=targets), seed=5)  # type: ignore[arg-type]
    assert {name.split(".")[-2] for name, _ in model.named_parameters() if "lora" in name} == names


def test_experts_have_no_adapters() -> None:
    experts = Model(**{**training.MODEL.model_dump(), "family": "granitemoe", "n_experts": 4, "top_k": 2})
    with pytest.raises(UserError, match=r"lora.targets: the model has no linear layer gate_up, down"):
        adapt(Transformer(experts), Lora(), seed=1)
    assert adapted(adapt(Transformer(experts), Lora(targets=["qkv", "out"]), seed=1))


def test_a_recipe_that_adapts_experts_is_refused_before_anything_runs() -> None:
    with pytest.raises(
        UserError, match=r"posttraining\.sft-1\.lora\.targets: experts have no adapters. Leave gate_up and down out"
    ):
        load_recipe(Path("recipes/tiny/granite3-moe.yaml"), ["posttraining.sft-1.lora={rank: 2}"])
    load_recipe(Path("recipes/tiny/granite3-moe.yaml"), ["posttraining.sft-1.lora={rank: 2, targets: [qkv]}"])


def _grpo(state: TrainState, policy: LanguageModel) -> Objective:
    return GrpoObjective(state, policy, training.prompts(), training.settings(epochs=2), 3)


def test_a_run_with_adapters_moves_them_alone(tmp_path: Path) -> None:
    """A frozen tensor keeps its bits through training; what is written differs at the targets."""
    state, _ = training.train(tmp_path, Ranks(), _grpo, lora=LORA)
    parent = dict(training.fresh()[0].model.named_parameters())
    written = state.weights()
    assert written.keys() == parent.keys()
    moved = {name for name, tensor in written.items() if not torch.equal(tensor, parent[name])}
    assert moved == {f"layers.0.{name}.weight" for name in ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")}
