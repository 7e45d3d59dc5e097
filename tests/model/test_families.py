"""Every family against transformers' own class: logits, loss and gradients, after loading and after a round trip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lehr.interop.hf_weights import from_hf_state, load_hf, save_hf
from lehr.model.layers import KVCache
from lehr.model.packed import packed
from lehr.runtime.errors import UserError
from lehr.train.losses import cross_entropy

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
HALF = {"rope_type": "default", "rope_theta": 5e3, "partial_rotary_factor": 0.5}
TWO_OF_FIVE = {"num_local_experts": 5, "num_experts_per_tok": 2}
MULTIPLIERS = {"embedding_multiplier": 7.0, "residual_multiplier": 0.3, "attention_multiplier": 0.2, "logits_scaling": 3.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "olmo": ("Olmo", {"num_key_value_heads": 6}),
    "olmo, tied, clipped, grouped": ("Olmo", {"num_key_value_heads": 2, "clip_qkv": 0.05, "tie_word_embeddings": True}),
    "olmo2, odd epsilon": ("Olmo2", {"num_key_value_heads": 6, "rms_norm_eps": 3e-4}),
    "olmo2, tied, grouped": ("Olmo2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "granite": ("Granite", {"num_key_value_heads": 3, "tie_word_embeddings": True, "rms_norm_eps": 2e-3, **MULTIPLIERS}),
    "granite, untied": ("Granite", {"num_key_value_heads": 6, "tie_word_embeddings": False, **MULTIPLIERS}),
    "granitemoe": ("GraniteMoe", {"num_key_value_heads": 3, "tie_word_embeddings": True, **TWO_OF_FIVE, **MULTIPLIERS}),
    "granitemoe, one expert a token": (
        "GraniteMoe",
        {"num_key_value_heads": 6, "tie_word_embeddings": False, "num_local_experts": 3, "num_experts_per_tok": 1},
    ),
    "stablelm": ("StableLm", {"num_key_value_heads": 6, "use_qkv_bias": True, "layer_norm_eps": 1e-3}),
    "stablelm, grouped, no bias, half rotary": ("StableLm", {"num_key_value_heads": 2, "rope_parameters": HALF}),
}


def theirs_of(case: str) -> Any:
    import transformers

    name, changes = CASES[case]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # norms and biases too: with norms of one, two swapped norms could not be told apart
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * 0.12 if p.dim() > 1 else (1 + 0.3 * noise if float(p.mean()) > 0.5 else 0.2 * noise))
    return model


def tokens() -> Tensor:
    return torch.randint(2, 101, (2, 33), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_are_theirs(case: str, tmp_path: Path) -> None:
    theirs = theirs_of(case)
    theirs.save_pretrained(tmp_path)
    ours = load_hf(tmp_path)
    x = tokens()
    want = theirs(x[:, :-1], use_cache=False).logits
    torch.testing.assert_close(ours(x[:, :-1]), want, rtol=0, atol=2e-5)

    loss = torch.nn.functional.cross_entropy(want.reshape(-1, 101), x[:, 1:].reshape(-1), reduction="sum")
    loss.backward()
    ce = cross_entropy(ours, x[:, :-1], x[:, 1:], with_z=False)
    ce.nats.backward()
    torch.testing.assert_close(ce.nats.detach(), loss.detach(), rtol=1e-6, atol=1e-4)
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
    for name, gradient in from_hf_state(gradients, ours.config).items():
        mine = ours.get_parameter(name).grad
        assert mine is not None
        torch.testing.assert_close(mine, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_a_round_trip_changes_nothing(case: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs_of(case).save_pretrained(tmp_path / "theirs", max_shard_size="60KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1  # an index, too
    ours = load_hf(tmp_path / "theirs")
    save_hf(ours, tmp_path / "ours", eos=1, pad=0)
    again = load_hf(tmp_path / "ours")
    assert again.config == ours.config
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(back(tokens(), use_cache=False).logits, ours(tokens()), rtol=0, atol=2e-5)
        assert torch.equal(again(tokens()), ours(tokens()))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"model_type": "llama"}, ["'llama'", "Import one of"]),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, ["rope scaling 'yarn'"]),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, ["rope scaling 'linear'"]),
        ({"attention_bias": True}, ["attention_bias"]),
        ({"hidden_act": "gelu"}, ["hidden_act 'gelu'"]),
        ({"head_dim": 16}, ["head_dim"]),
        ({"hidden_size": None}, ["d_model"]),
        ({"num_hidden_layers": 4}, ["model.layers.3", "missing"]),
        ({"num_hidden_layers": 2}, ["model.layers.2", "no place"]),
        ({"intermediate_size": 44}, ["shape (40, 48) instead of (44, 48)"]),
    ],
)
def test_what_is_unsupported_or_damaged_is_named(change: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    theirs_of("olmo2, tied, grouped").save_pretrained(tmp_path)
    config = {**json.loads((tmp_path / "config.json").read_text()), **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        load_hf(tmp_path)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_damaged_files_are_named(tmp_path: Path) -> None:
    theirs_of("olmo").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_hf(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="neither"):
        load_hf(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_hf(tmp_path)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_decoding_asks_for_the_last_column_alone(case: str, tmp_path: Path) -> None:
    """A prompt of five tokens in one call, then token by token, against the same without a cache."""
    theirs_of(case).save_pretrained(tmp_path)
    ours, ids_BT = load_hf(tmp_path), tokens()
    cache = KVCache(ours.config, len(ids_BT), ids_BT.shape[1], torch.zeros(len(ids_BT), dtype=torch.int64), torch.float32)
    want = ours.hidden(ids_BT)
    for start, end in [(0, 5), *((i, i + 1) for i in range(5, ids_BT.shape[1]))]:
        found = ours.newest(ids_BT[:, start:end], cache)
        torch.testing.assert_close(found, want[:, end - 1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_packed_weights_give_the_same_logits(case: str, tmp_path: Path) -> None:
    theirs_of(case).save_pretrained(tmp_path)
    ours = load_hf(tmp_path)
    twins = [packed(ours, rows=rows, steps=64) for rows in (1, 2)]  # one row of fp32 has a layout of its own
    assert ours not in twins
    want = ours(tokens())
    for twin in twins:
        torch.testing.assert_close(twin(tokens()), want, rtol=0, atol=2e-5)
    for layer in ours.layers:
        layer.get_submodule("attention.out").weight.zero_()
    assert not torch.allclose(ours(tokens()), want)
    for twin in twins:
        torch.testing.assert_close(twin(tokens()), want, rtol=0, atol=2e-5)  # matrices are copies
    assert packed(ours, rows=2, steps=3) is ours  # too short to pay
