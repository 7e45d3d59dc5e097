"""The export against transformers' own Olmo2: same logits both ways, tied and untied, grouped queries and not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from lehr.config.model import Model
from lehr.interop.hf_config import hf_config
from lehr.interop.hf_export import export_hf, verify_hf
from lehr.interop.hf_weights import from_hf_state, to_hf_state
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError

torch.set_num_threads(1)
SHAPES = {
    "untied": {"n_heads": 4, "n_kv_heads": 4, "tied_embeddings": False},
    "tied": {"n_heads": 4, "n_kv_heads": 4, "tied_embeddings": True},
    "grouped": {"n_heads": 6, "n_kv_heads": 2, "tied_embeddings": False},
}


def small(shape: str) -> Model:
    return Model(vocab_size=97, n_layers=3, d_model=48, mlp_hidden=40, max_seq_len=64, rope_theta=10_000.0, **SHAPES[shape])


def uneven_(module: torch.nn.Module, seed: int) -> None:
    """Random weights, norms too: with norms of one, two swapped norms could not be told apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.15 if parameter.dim() > 1 else 1 + 0.3 * noise)


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(0, 97, (2, 40), generator=torch.Generator().manual_seed(seed))


def words() -> Tokenizer:
    vocabulary = {f"w{i}": i for i in range(95)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<|end|>", "<|pad|>"])
    return tokenizer


@pytest.mark.parametrize("shape", SHAPES)
def test_theirs_becomes_ours(shape: str) -> None:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    config = small(shape)
    theirs = Olmo2ForCausalLM(Olmo2Config(**hf_config(config, eos=95, pad=96))).eval()
    uneven_(theirs, 1)
    ours = Transformer(config)
    ours.load_state_dict(from_hf_state(theirs.state_dict(), config))
    with torch.no_grad():
        difference = (ours(tokens()) - theirs(tokens()).logits).abs().max().item()
    assert difference < 2e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_ours_becomes_theirs_on_disk(shape: str, tmp_path: Path) -> None:
    config = small(shape)
    ours = Transformer(config).eval()
    uneven_(ours, 2)
    template = "{% for m in messages %}{{ m['content'] }} <|end|> {% endfor %}"
    export_hf(ours.state_dict(), config, words(), template, tmp_path, eos="<|end|>", pad="<|pad|>")
    result = verify_hf(tmp_path, ours, [tokens(3), tokens(4)[:1, :17]])
    assert result.ok and result.max_abs_difference < 2e-5 and result.positions == 80 + 17

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.model_max_length) == (95, 96, 64)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "w1 w2"}], return_dict=False)
    assert rendered == [1, 2, 95]
    assert tokenizer("w5 w6").input_ids == words().encode("w5 w6").ids


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_is_exact_and_shares_no_memory(shape: str) -> None:
    config = small(shape)
    model = Transformer(config).initialise(3)
    state = model.state_dict()
    there = to_hf_state(state, config)
    back = from_hf_state(there, config)
    assert state.keys() == back.keys()
    assert all(torch.equal(state[name], back[name]) for name in state)
    there["model.embed_tokens.weight"].zero_()
    assert model.embed.weight.abs().sum() > 0


def test_export_is_deterministic(tmp_path: Path) -> None:
    config = small("untied")
    state = Transformer(config).initialise(4).state_dict()
    for name in ("a", "b"):
        export_hf(state, config, words(), None, tmp_path / name, eos="<|end|>", pad="<|pad|>")
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embed.weight", "embedding"),
        ("layers.1.attention.qkv.weight", "layer 1"),
        ("layers.2.mlp_norm.weight", "layer 2"),
        ("norm.weight", "final norm"),
        ("head.weight", "head"),
    ],
)
def test_a_difference_is_found_and_named(name: str, expected: str, tmp_path: Path) -> None:
    config = small("untied")
    ours = Transformer(config).eval()
    uneven_(ours, 5)
    export_hf(ours.state_dict(), config, words(), None, tmp_path, eos="<|end|>", pad="<|pad|>")
    with torch.no_grad():
        ours.get_parameter(name).mul_(1.2)
        if name.endswith("qkv.weight"):
            ours.get_parameter(name)[:].copy_(ours.get_parameter(name).roll(1, 0))  # QK-norm undoes a scale
    result = verify_hf(tmp_path, ours, [tokens()])
    assert not result.ok and result.first_difference == expected


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    config = small("untied")
    state = Transformer(config).state_dict()
    short = {name: tensor for name, tensor in state.items() if name != "norm.weight"}
    with pytest.raises(UserError, match=r"norm\.weight is missing"):
        export_hf(short, config, words(), None, tmp_path / "x", eos="<|end|>", pad="<|pad|>")
    with pytest.raises(UserError, match="has no place"):
        to_hf_state(state | {"extra": torch.zeros(1)}, config)
    with pytest.raises(UserError, match=r"shape \(97, 48\) instead of \(98, 48\)"):
        to_hf_state(state, config.model_copy(update={"vocab_size": 98}))
    with pytest.raises(UserError, match=r"no token '<\|bye\|>'"):
        export_hf(state, config, words(), None, tmp_path / "x", eos="<|bye|>", pad="<|pad|>")
    assert not (tmp_path / "x").exists()
