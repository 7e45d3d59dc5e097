"""torch.compile where it pays: one block, compiled once and shared by all layers."""

from __future__ import annotations

import shutil

import torch

from lehr.model.transformer import Transformer


def can_compile() -> bool:
    """Whether the compiler that inductor needs on this machine is there: a C++ one on CPU, Triton on GPUs."""
    if torch.cuda.is_available():
        return True
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def compile_blocks(model: Transformer) -> None:
    """Compile the blocks' forward pass. All layers run the same code on other weights, and weights are inputs of the
    compiled graph, so the first layer pays and the others reuse it."""
    for layer in model.layers:
        layer.compile(dynamic=False)
