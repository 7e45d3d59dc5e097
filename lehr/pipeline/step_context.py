"""The settings that a post-training step gets, besides its own section, when its nodes are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lehr.config.ancestry import MadeOf
from lehr.config.chat import Chat, SuppliedSource
from lehr.config.mix import Mix
from lehr.config.parallel import Parallel
from lehr.config.training import Watch
from lehr.runtime import seeds

S = TypeVar("S", bound=SuppliedSource)


@dataclass(frozen=True)
class Reward:
    """The nodes, or addresses, of the checkpoints that a reward is computed with: a reward model's, or those of the two
    language models that are contrasted, `per_token` or in sum."""

    checkpoints: tuple[str, ...]
    per_token: bool = False


@dataclass(frozen=True)
class StepContext:
    """`parent` is the node from which the step starts, or an address. `window_tokens` is pretraining's sequence length, 0 if
    unknown; `several_pairs`: whether the recipe has several steps that sample pairs. `context_tokens` is the model's length;
    `decontaminate` are the tasks whose texts no row may have, `corpus`: whether some of these are
    held-back documents. `models` says from which models those before this step, and it, are made, `references` where one of
    these is under another name or address; `answer_tokens` is the longest answer of an evaluation; `rewards` are those before
    the step by name."""

    parent: str
    recipe_seed: int
    parallel: Parallel
    watch: Watch
    mixes: Mapping[str, Mix]
    window_tokens: int
    several_pairs: bool
    chat: Chat = field(default_factory=Chat)
    context_tokens: int = 0
    decontaminate: tuple[str, ...] = ()
    corpus: bool = False
    models: MadeOf = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    answer_tokens: int = 56
    rewards: Mapping[str, Reward] = field(default_factory=dict)

    def reference(self, name: str) -> str:
        """The node of a model that the recipe names, or its address."""
        return self.references.get(name, name)

    def reward(self, name: str) -> Reward:
        """What is to be read for a reward of that name; an address is a reward model of another run."""
        return self.rewards.get(name) or Reward((name,))

    def seed(self, name: str) -> int:
        """A step's own seed: a function of the recipe's seed and the step's name."""
        return seeds.derive(self.recipe_seed, name)

    def sources(self, names: Iterable[str], kind: type[S]) -> dict[str, S]:
        """The supplied sources of a kind among `names`, in their order."""
        found = {name: self.chat.sources.get(name) for name in names}
        return {name: source for name, source in found.items() if isinstance(source, kind)}

    def cleaning(self) -> dict[str, Any]:
        """How rows are decontaminated: settings of a stage's configuration. Generated ones are apart by their keys, and are
        compared all the same: a generator of somebody else's, or a new one, may write what an evaluation asks."""
        return {
            "decontaminate": list(self.decontaminate),
            "paragraphs": self.chat.decontaminate_paragraphs,
            "action": self.chat.decontaminate_action,
            "ngram": self.chat.decontaminate_ngram,
            "hits": self.chat.decontaminate_hits,
            "evaluation_seed": self.recipe_seed,
        }

    def cleaned_with(self) -> dict[str, tuple[str, ...]]:
        """The inputs of a stage that prepares rows."""
        return {"tokenizer": ("tokenizer",), **({"documents": ("documents",)} if self.corpus else {})}

    def pairs_name(self, step: str) -> str:
        """The name of the node that samples a step's pairs."""
        return f"{step}-pairs" if self.several_pairs else "pairs"
