"""Hand-written gradients against autograd's of the plain formulas, in fp32 and in bf16."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lehr.model.attention import attention
from lehr.model.fused import rms_norm, rotate, swiglu
from lehr.model.layers import rope_tables


def plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, 1e-5)


def plain_turn(x: Tensor) -> Tensor:
    cos, sin = rope_tables(6, x.shape[2], 100.0)
    first, second = x[..., :6].chunk(2, dim=-1)
    return torch.cat([x[..., :6] * cos + torch.cat([-second, first], dim=-1) * sin, x[..., 6:]], dim=-1)


def plain_swiglu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    unseen = torch.full((q.shape[2], k.shape[2]), float("-inf")).triu(1)
    return torch.softmax(0.3 * q @ k.transpose(-1, -2) + unseen, dim=-1) @ v


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("fused", "plain", "shapes"),
    [
        (lambda x, w: rms_norm(x, w, 1e-5), plain_norm, [(3, 5, 24), (24,)]),
        (lambda x: rotate(x.mT, *rope_tables(6, 5, 100.0)), lambda x: plain_turn(x.mT), [(2, 3, 8, 5)]),  # a transposed view
        (swiglu, plain_swiglu, [(3, 150, 24)]),  # more rows than are taken at once
        (lambda q, k, v: attention(q, k, v, 0.3, None), plain_attention, [(1, 2, 300, 8)] * 3),  # three blocks of queries
    ],
    ids=["norm", "rotation", "swiglu", "attention"],
)
def test_results_and_gradients_are_those_of_the_plain_formula(
    fused: Callable[..., Tensor], plain: Callable[..., Tensor], shapes: list[tuple[int, ...]], dtype: torch.dtype
) -> None:
    """bf16 is held to the plain formula in fp32 on the same numbers, within a few of its roundings."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    wide = [x.detach().float().requires_grad_() for x in inputs]
    ours, theirs = fused(*inputs), plain(*wide)
    upstream = torch.randn(theirs.shape).to(dtype)
    pairs = [(ours, theirs), *zip(torch.autograd.grad(ours, inputs, upstream),
                                  torch.autograd.grad(theirs, wide, upstream.float()), strict=True)]  # fmt: skip
    for mine, expected in pairs:
        assert mine.dtype == dtype
        room = 2e-6 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(mine.float(), expected, rtol=room, atol=room * float(expected.detach().abs().max()))
