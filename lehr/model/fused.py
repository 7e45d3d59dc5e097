"""The parts of a block between its matrix products, each as one autograd operation. Shapes: D width, F gated MLP width,
B batch, H heads, T positions, E head size, R rotary dimensions of a head.

Without a compiler every operator of the plain formula is a pass over memory, forward and backward, and saves its input for the
backward pass. These operations save one input in the working precision and recompute the rest. A compiler fuses the plain
formulas better than this, so under torch.compile the plain formulas run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS = 128  # rows of an MLP's width that fit a core's cache in fp32


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean x^2 + eps) * weight over the last axis, in fp32, as x's dtype (Zhang & Sennrich 2019)."""
    if torch.compiler.is_compiling():
        return F.rms_norm(x.float(), (x.shape[-1],), weight_D.float(), eps).to(x.dtype)
    if not torch.is_grad_enabled():  # on a CPU PyTorch's own is a dozen small calls and takes three times as long
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = torch.addcmul(norm.new_full((), eps), norm, norm, value=1 / x.shape[-1]).rsqrt_()
        return (wide * scale).mul_(weight_D).to(x.dtype)
    out: Tensor = _RMSNorm.apply(x, weight_D, eps)  # type: ignore[no-untyped-call]
    return out


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[i], x[i + R/2]) of the first R dimensions by its position's angle; the others are unchanged.

    `cos`/`sin` broadcast to (B, H, T, R).
    """
    R = cos.shape[-1]
    if x_BHTE.shape[-1] > R:
        return torch.cat([rotate(x_BHTE[..., :R], cos, sin), x_BHTE[..., R:]], dim=-1)
    if torch.compiler.is_compiling():
        first, second = x_BHTE.chunk(2, dim=-1)
        return (x_BHTE * cos + torch.cat([-second, first], dim=-1) * sin).to(x_BHTE.dtype)
    if not torch.is_grad_enabled():  # decoding makes many small calls, for which autograd's set-up counts
        return _turned(x_BHTE, cos, sin).to(x_BHTE.dtype)
    out: Tensor = _Rotate.apply(x_BHTE, cos, sin)  # type: ignore[no-untyped-call]
    return out


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, (..., 2F) -> (..., F)."""
    if torch.compiler.is_compiling():
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up
    if not torch.is_grad_enabled():
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)
    out: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
    return out


def _inverse_rms(wide: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean x^2 + eps) over the last axis, which is kept with size 1."""
    norm: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return norm.square_().div_(wide.shape[-1]).add_(eps).rsqrt_()


def _times(wide: Tensor, factor: Tensor, source: Tensor) -> Tensor:
    """wide * factor, in place if `wide` is a copy of `source`: its memory is in the cache, new memory would not be."""
    return wide * factor if wide is source else wide.mul_(factor)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = _inverse_rms(wide, eps)
        ctx.save_for_backward(x, weight_D, scale)
        return _times(wide, scale, x).mul_(weight_D.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """With s = scale and g = grad weight: d x = s (g - x s^2 mean(g x)), d weight = sum of grad x s over the rows."""
        x, weight_D, scale = ctx.saved_tensors
        wide, wide_grad, weight = x.float(), grad.float(), weight_D.float()
        both = wide_grad * wide
        d_weight_D = scale.flatten() @ both.flatten(0, -2)
        pull = (both @ weight)[..., None].mul_(scale.square()).div_(-x.shape[-1])
        dx = _times(wide_grad, weight, grad).addcmul_(wide, pull).mul_(scale)
        return dx.to(x.dtype), d_weight_D.to(weight_D.dtype), None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.strides = torch.empty_like(x_BHTE, device="meta").stride()  # a gradient with these can be viewed like the input
        packed = torch.contiguous_format  # the first pass makes the data contiguous, so all later passes are sequential
        wide = x_BHTE.to(torch.float32, memory_format=packed)
        return _turned(wide, cos, sin).to(x_BHTE.dtype, memory_format=packed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The inverse rotation, by the negative angles."""
        cos, sin = ctx.saved_tensors
        dx = torch.empty_strided(grad.shape, ctx.strides, dtype=grad.dtype, device=grad.device)
        dx.copy_(_turned(grad, cos, -sin))
        return dx, None, None


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
        """With s = sigmoid(gate): d gate = grad up (s + gate s (1 - s)), d up = grad gate s. In fp32, a few rows at a time."""
        (gate_up,) = ctx.saved_tensors
        out = torch.empty_like(gate_up)
        rows = len(gate_up.flatten(0, -2)) if gate_up.is_cuda else _ROWS
        parts = (t.flatten(0, -2).split(rows) for t in (gate_up, grad, out))
        for both, upper, into in zip(*parts, strict=True):
            gate, up = both.float().chunk(2, dim=-1)
            d_gate, d_up = into.chunk(2, dim=-1)
            upper = upper.float()
            sigmoid = torch.sigmoid(gate)
            silu = gate * sigmoid
            d_up.copy_(upper * silu)
            d_gate.copy_((upper * up).mul_(silu.addcmul_(silu, sigmoid, value=-1).add_(sigmoid)))
        return out
