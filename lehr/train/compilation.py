"""torch.compile, for stages long enough to gain from it: one block is compiled once and the code is shared by all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from lehr.config.training import Compile
from lehr.model.transformer import Backbone, Transformer
from lehr.runtime.errors import UserError
from lehr.runtime.hardware import cpp_compiler

T = TypeVar("T")
# Compiling takes 13 to 47 s on one core (measured) and then saves a tenth to a seventh of the time: it pays after some minutes.
_WORTH_SECONDS = 900.0
_FLOPS_PER_SECOND = {"cpu": 1e11, "cuda": 3e14}  # of one rank; only the order of magnitude matters for this decision


def pays(wish: Compile, model: Transformer, flops: float, ranks: int) -> bool:
    """Whether a stage of `flops` on `ranks` compiles its blocks. Models with experts do not: the number of rows for each expert
    differs at every step, and each new shape would be compiled again.

    Raises UserError if the recipe has `compile: on` and this machine has no C++ compiler.
    """
    if wish == "on" and not cpp_compiler():
        what = "this machine has no C++ compiler"
        raise UserError(what, where="compile=on", remedy="install g++, or set compile to auto or off")
    seconds = flops / ranks / _FLOPS_PER_SECOND.get(model.cos.device.type, 1e11)
    return wish == "on" or (wish == "auto" and seconds >= _WORTH_SECONDS and not model.config.n_experts and cpp_compiler())


def compile_blocks(model: Backbone) -> None:
    """Compile the blocks' forward pass. All layers run the same code on other weights, and weights are inputs of the
    compiled graph, so only the first layer is compiled and the others reuse the result. Call it after `checkpoint_activations`:

    the recomputation is then compiled too. `forward` is compiled instead of the module, so that the hooks with which FSDP2
    gathers and frees weights stay outside the graph.
    """
    for layer in model.layers:
        layer.forward = torch.compile(layer.forward, dynamic=False)


def uncompiled(call: Callable[..., T]) -> Callable[..., T]:
    """`call` with uncompiled blocks: evaluation has sequences of many lengths, and each length would be compiled anew."""

    def plain(*arguments: object) -> T:
        with torch.compiler.set_stance("force_eager"):
            return call(*arguments)

    return plain
