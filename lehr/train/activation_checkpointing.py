"""Activation checkpointing: which activations are kept for the backward pass, and which are computed again."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from lehr.config.parallel import Recompute
from lehr.model.transformer import Backbone

# Dear to compute, cheap to keep: matrix products, attention, and what came over the network.
_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops._c10d_functional.all_reduce.default,
    torch.ops._c10d_functional.all_gather_into_tensor.default,
    torch.ops._c10d_functional.reduce_scatter_tensor.default,
}


def checkpoint_activations(model: Backbone, policy: Recompute) -> None:
    """Make every block of `model` keep less: `full` its input alone (Chen et al. 2016), `selective` also the results of matrix
    products and attention, so that only norms, activations and rotations are computed again (Korthikanti et al. 2022)."""
    if policy == "none":
        return
    more: dict[str, Any] = {}
    if policy == "selective":
        more["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    for layer in model.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, **more)


def _policy(_context: Any, operator: Any, *_arguments: Any, **_named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
