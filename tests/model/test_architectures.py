"""The parts that the five families differ in, each against a plain re-statement of its formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.attention import attention
from lehr.model.init import init_std
from lehr.model.moe import Experts, Routing
from lehr.model.size import active_parameter_count, flops_per_token, parameter_count
from lehr.model.transformer import Transformer
from lehr.train.losses import cross_entropy, router_loss

SIZES: dict[str, Any] = {"vocab_size": 61, "n_layers": 3, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden": 20}
EXPERTS: dict[str, Any] = {"n_experts": 5, "top_k": 2}


def model_of(family: str, **changes: Any) -> Transformer:
    experts = EXPERTS if family == "granitemoe" else {}
    return Transformer(Model(family=family, max_seq_len=48, **{**SIZES, **experts, **changes})).initialise(3)


@pytest.mark.parametrize("family", ["olmo", "olmo2", "granite", "granitemoe", "stablelm"])
@pytest.mark.parametrize("tied", [True, False])
def test_sizes_in_closed_form(family: str, tied: bool) -> None:
    model = model_of(family, tied_embeddings=tied, rope_fraction=0.5)
    assert parameter_count(model.config) == sum(p.numel() for p in model.parameters())
    if family == "granitemoe":
        idle = sum(p.numel() for n, p in model.named_parameters() if n.endswith(("gate_up", "down"))) * 3 // 5
        assert active_parameter_count(model.config) == parameter_count(model.config) - idle
    matrices = active_parameter_count(model.config, embedding=tied) - sum(p.numel() for p in model.parameters() if p.dim() == 1)
    scores = model.config.n_layers * 48 * 32  # the causal half of two products of length * width
    assert flops_per_token(model.config, 48) == 6 * (matrices + scores)


def test_experts_equal_a_masked_loop() -> None:
    """Values and gradients, with an expert that gets nothing; every assignment is computed."""
    config = model_of("granitemoe").config
    torch.manual_seed(0)
    layer = Experts(config)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.3)
    with torch.no_grad():
        layer.router.weight[4] = 0.0
    x = torch.randn(2, 7, 32).abs().requires_grad_()
    with torch.no_grad():
        layer.router.weight[0] = 5.0  # far ahead of the rest, so that others go short
    routing: list[Routing] = []
    got = layer(x, routing)
    assert int(routing[0].load_X.sum()) == 14 * config.top_k

    flat = x.reshape(-1, 32)
    chosen, index = (flat @ layer.router.weight.T).topk(2, dim=-1)
    gates = chosen.softmax(-1)
    want = torch.zeros_like(flat)
    for e in range(config.n_experts):
        gate, up = (flat @ layer.gate_up[e].T).chunk(2, dim=-1)
        weight = (gates * (index == e)).sum(-1, keepdim=True)
        want = want + weight * ((F.silu(gate) * up) @ layer.down[e].T)
    torch.testing.assert_close(got.reshape(-1, 32), want, rtol=1e-5, atol=1e-5)
    tensors = [x, *layer.parameters()]
    ours = torch.autograd.grad(got.square().sum(), tensors, retain_graph=True)
    theirs = torch.autograd.grad(want.square().sum(), tensors)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_router_losses_by_their_equations() -> None:
    model = model_of("granitemoe", balance_loss=0.5, router_z_loss=0.25, n_layers=1)
    tokens = torch.randint(0, 61, (2, 9))
    ce = cross_entropy(model, tokens, tokens, with_z=False)
    caught: list[torch.Tensor] = []
    model.layers[0].mlp.router.register_forward_hook(lambda _m, _i, out: caught.append(out))
    model.hidden(tokens)
    logits = caught[0]
    f = torch.bincount(logits.topk(2, dim=-1).indices.reshape(-1), minlength=5) / (18 * 2)
    balance = 5 * (f * logits.softmax(-1).mean(0)).sum()
    z = torch.logsumexp(logits, -1).square().mean()
    torch.testing.assert_close(torch.as_tensor(router_loss(ce, model.config)), 18 * (0.5 * balance + 0.25 * z))


def test_documents_that_do_not_see_each_other() -> None:
    """A window of three documents gives each of them the states it has alone."""
    model = model_of("stablelm", rope_fraction=0.5).double()
    parts = [torch.randint(0, 61, (n,)) for n in (5, 1, 9)]
    begins = torch.cat([F.one_hot(torch.tensor(0), len(p)).bool() for p in parts])
    with torch.no_grad():
        together = model.hidden(torch.cat(parts)[None], begins_BT=begins[None])[0]
        alone = torch.cat([model.hidden(p[None])[0] for p in parts])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("length", [5, 128, 300])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_dense_bf16_attention_equals_the_fused_kernel(length: int, kv_heads: int) -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, h, length, 16) for h in (4, kv_heads, kv_heads))
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=0.3)
    mask = torch.full((length, length), float("-inf")).triu(1)[None, None].expand(2, 1, -1, -1)
    for given in (None, mask):
        got = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), 0.3, given)
        torch.testing.assert_close(got.float(), want, rtol=0.05, atol=0.03)


def test_initialisation_schemes() -> None:
    """Standard deviations by hand: width 32, layer 1 (the second), MLP width 20, 3 layers."""
    mup = Model(family="granite", max_seq_len=8, mup_base_width=8, **SIZES)
    old = Model(family="olmo", max_seq_len=8, **SIZES)
    scaled = Model(family="stablelm", max_seq_len=8, rope_fraction=0.5, **SIZES)
    new = Model(family="olmo2", max_seq_len=8, **SIZES)
    names = ["embed", "layers.1.attention.qkv", "layers.1.attention.out", "layers.1.mlp.down"]
    stds = {f"{name}.weight": [init_std(f"{name}.weight", c) for c in (new, scaled, old, mup)] for name in names}
    assert stds == {
        "embed.weight": pytest.approx([0.02, 0.02, 1 / math.sqrt(32), 0.1]),
        "layers.1.attention.qkv.weight": pytest.approx([0.02, 0.02, 1 / math.sqrt(32), 0.05]),
        "layers.1.attention.out.weight": pytest.approx([0.02, 0.02 / math.sqrt(6), 1 / math.sqrt(128), 0.05 / math.sqrt(6)]),
        "layers.1.mlp.down.weight": pytest.approx([0.02, 0.02 / math.sqrt(6), 1 / math.sqrt(80), 0.05 / math.sqrt(6)]),
    }
    weight = model_of("olmo2", d_model=256, n_heads=4).layers[0].attention.qkv.weight.detach()
    assert float(weight.std()) == pytest.approx(0.02 * 0.9866, rel=0.02)  # a normal cut at 3 std has 0.9866 of its spread
    assert float(weight.abs().max()) <= 0.06
