"""The settings that a post-training step gets, besides its own section, when its nodes are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lehr.config.chat import Chat
from lehr.config.mix import Mix
from lehr.config.parallel import Parallel
from lehr.config.training import Watch
from lehr.runtime import seeds


@dataclass(frozen=True)
class StepContext:
    """`parent` is the node from which the step starts, or an address. `window_tokens` is pretraining's sequence length, 0 if
    unknown; `several_pairs`: whether the recipe has several steps that sample pairs; `chat`: the recipe's section."""

    parent: str
    recipe_seed: int
    parallel: Parallel
    watch: Watch
    mixes: Mapping[str, Mix]
    window_tokens: int
    several_pairs: bool
    chat: Chat

    def seed(self, name: str) -> int:
        """A step's own seed: a function of the recipe's seed and the step's name."""
        return seeds.derive(self.recipe_seed, name)

    def pairs_name(self, step: str) -> str:
        """The name of the node that samples a step's pairs."""
        return f"{step}-pairs" if self.several_pairs else "pairs"
