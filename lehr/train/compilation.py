"""torch.compile where it pays: one block, compiled once and shared by all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from lehr.config.training import Compile
from lehr.model.transformer import Backbone, Transformer
from lehr.runtime.errors import UserError
from lehr.runtime.hardware import cpp_compiler

T = TypeVar("T")
# Compiling costs 13 to 47 s on a core (measured) and brings a tenth to a seventh of the time.
_WORTH_SECONDS = 900.0
_FLOPS_PER_SECOND = {"cpu": 1e11, "cuda": 3e14}  # of a rank; for deciding, not for planning


def pays(wish: Compile, model: Transformer, flops: float, ranks: int) -> bool:
    """Whether a stage of `flops` on `ranks` compiles its blocks. Experts do not: each step cuts their rows anew.

    Raises UserError where a recipe says `on` and there is no compiler.
    """
    if wish == "on" and not cpp_compiler():
        what = "this machine has no C++ compiler"
        raise UserError(what, where="compile=on", remedy="install g++, or set compile to auto or off")
    seconds = flops / ranks / _FLOPS_PER_SECOND.get(model.cos.device.type, 1e11)
    return wish == "on" or (wish == "auto" and seconds >= _WORTH_SECONDS and not model.config.n_experts and cpp_compiler())


def compile_blocks(model: Backbone) -> None:
    """Compile the blocks' forward pass. All layers run the same code on other weights, and weights are inputs of the
    compiled graph, so the first layer pays and the others reuse it. After `checkpoint_activations`, whose part it takes in.

    `forward` is compiled rather than the module's call: the hooks by which FSDP2 gathers and frees weights stay outside.
    """
    for layer in model.layers:
        layer.forward = torch.compile(layer.forward, dynamic=False)


def uncompiled(call: Callable[..., T]) -> Callable[..., T]:
    """`call` with the blocks as they were written: evaluation asks for every length there is, and each would be compiled."""

    def plain(*arguments: object) -> T:
        with torch.compiler.set_stance("force_eager"):
            return call(*arguments)

    return plain
