"""The parts of a block between its matrix products, each as one operation for autograd. Shapes: D width, F gated MLP width,
B batch, H heads, T positions, E head size, R rotary dimensions of a head.

Without a compiler every operator of a plain formula is a pass over memory, forward and backward, and keeps its input for the
backward pass. These keep one input in the working precision and compute the rest again. A compiler fuses the plain formulas
better than it could these, so under torch.compile the plain ones run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean x^2 + eps) * weight over the last axis, in fp32, as x's dtype (Zhang & Sennrich 2019)."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return F.rms_norm(x.float(), (x.shape[-1],), weight_D.float(), eps).to(x.dtype)
    out: Tensor = _RMSNorm.apply(x, weight_D, eps)  # type: ignore[no-untyped-call]
    return out


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + R/2]) of the first R dimensions by its position's angle; the others pass.

    `cos`/`sin` broadcast to (B, H, T, R).
    """
    R = cos.shape[-1]
    if x_BHTE.shape[-1] > R:
        return torch.cat([rotate(x_BHTE[..., :R], cos, sin), x_BHTE[..., R:]], dim=-1)
    if torch.compiler.is_compiling():
        first, second = x_BHTE.chunk(2, dim=-1)
        return (x_BHTE * cos + torch.cat([-second, first], dim=-1) * sin).to(x_BHTE.dtype)
    out: Tensor = _Rotate.apply(x_BHTE, cos, sin)  # type: ignore[no-untyped-call]
    return out


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, (..., 2F) -> (..., F)."""
    if torch.compiler.is_compiling():
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up
    out: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vecdot(wide, wide)[..., None].div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        return (wide * scale).mul_(weight_D.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """With n = x scale and g = grad weight: d x = scale (g - n mean(g n)), d weight = sum of grad n over the rows."""
        x, weight_D, scale = ctx.saved_tensors
        normed, grad = x.float() * scale, grad.float()
        both = grad * normed
        d_weight_D = both.flatten(0, -2).sum(dim=0)
        mean = (both @ weight_D.float())[..., None].div_(x.shape[-1])
        dx = (grad * weight_D.float()).sub_(normed.mul_(mean)).mul_(scale)
        return dx.to(x.dtype), d_weight_D.to(weight_D.dtype), None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.like = torch.empty_like(x_BHTE, device="meta")  # a gradient laid out as the input is can be viewed as it was
        return _turned(x_BHTE, cos, sin).to(x_BHTE.dtype, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The turn back: its angles are the negative ones."""
        cos, sin = ctx.saved_tensors
        dx = torch.empty_like(ctx.like, device=grad.device)
        return dx.copy_(_turned(grad, cos, -sin)), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide, half = x.float(), x.shape[-1] // 2
    out = wide * cos
    out[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(wide[..., :half], sin[..., half:])
    return out


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        out = torch.empty_like(gate_up)
        d_gate, d_up = out.chunk(2, dim=-1)
        torch.mul(grad, F.silu(gate), out=d_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=d_gate)
        return out
