"""Activation checkpointing: which activations stay in memory for the backward pass, and which are recomputed in it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from lehr.config.parallel import Recompute
from lehr.model.transformer import Backbone

# Operators whose outputs `selective` saves. Matrix products and attention take most of the FLOPs; recomputing a collective
# would send the same bytes over the network twice.
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
    """Checkpoint the activations of every block of `model`: `full` saves only the block's input (Chen et al. 2016), `selective`
    also the outputs of matrix products, attention and collectives, so that only norms, activation functions and rotary
    embeddings are recomputed (Korthikanti et al. 2022)."""
    if policy == "none":
        return
    more: dict[str, Any] = {}
    if policy == "selective":
        more["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    for layer in model.layers:
        # No dropout and no other random operator in a block: saving the RNG state would cost a device transfer for nothing.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, **more)


def _policy(_context: Any, operator: Any, *_arguments: Any, **_named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
