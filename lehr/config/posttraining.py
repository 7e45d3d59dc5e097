"""Post-training: an ordered list of steps, each a kind with its own keys. The steps that a recipe lists are those that run.

A step starts from the model before it, or from the one named by `parent`. Steps of released models whose data are held by
others describe in `supply` what must be supplied; `reported` holds a report's facts about them that no code uses.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive, PositiveFloat, Reported
from lehr.config.chat import Amount, share_of
from lehr.config.names import StepName
from lehr.config.optim import Optim
from lehr.config.sampler import SamplerElsewhere
from lehr.config.schedule import StepSchedule
from lehr.config.self_knowledge import About


class Step(Config):
    """The keys of every step."""

    name: StepName  # of its model, in scores and files; by default the kind
    parent: str = ""  # name of the model from which it starts; by default the one before
    processes: NonNegative = 0  # of the step; 0: as many as parallel.processes
    supply: str = ""  # data held by others that must be supplied before it can run
    reported: Reported = {}  # facts about a released model that no code uses


class TuningOptim(Optim):
    """AdamW for post-training: by default without weight decay and z-loss."""

    weight_decay: NonNegativeFloat = 0.0
    z_loss: NonNegativeFloat = 0.0


class Tuning(Step):
    """A step that trains by gradients. Its length is `steps`, or follows from `epochs` over `samples`."""

    optim: TuningOptim
    schedule: StepSchedule = StepSchedule()
    steps: NonNegative = 0
    epochs: NonNegativeFloat = 0.0
    samples: NonNegative = 0  # examples, pairs or prompts in one epoch
    batch_size: NonNegative = 0  # conversations, pairs or prompts; 0: not given
    batch_tokens: NonNegative = 0  # instead of batch_size, if batches are filled up to so many tokens
    max_length: NonNegative = 0  # tokens of a row; 0: the model's length
    checkpoint_steps: Positive = 20

    @property
    def total_steps(self) -> int:
        """Optimiser steps; 0 if neither `steps` nor the keys for computing it are given."""
        if self.steps or not self.batch_size:
            return self.steps
        return math.ceil(self.samples * (self.epochs or 1.0) / self.batch_size)


class SftStep(Tuning):
    """Supervised fine-tuning on conversations, loss on the assistant's tokens only."""

    kind: Literal["sft"]
    examples: dict[str, Amount] = {}  # name of a source in `chat`, or family of generated conversations -> how much of it
    loss: Literal["mean", "sum"] = "mean"  # over a batch's tokens; sum: each conversation's sum, over a batch's conversations
    replay_rows: NonNegative = 0  # windows of pretraining text added to each batch, against forgetting: in no report
    replay_mix: str = ""


class Pairs(Config):
    """Preference pairs sampled from the step's parent on generated prompts and judged by verifiers; in the reports a model
    judges answers of many models."""

    families: list[str] = Field(min_length=1)
    prompts: Positive
    held_out_prompts: Positive
    samples: Annotated[int, Field(ge=2)] = 3  # answers to each prompt
    reference_answers: bool = False  # prefer the data's own answer if no sample passes; off-policy, so not the default
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56


class DpoStep(Tuning):
    """Direct preference optimisation (Rafailov et al. 2023); the defaults are those of OLMo 2's code."""

    kind: Literal["dpo"]
    pairs: Pairs | None = None
    examples: dict[str, Amount] = {}  # supplied preferences in place of `pairs`: name of a source in `chat` -> how much of it
    beta: PositiveFloat = 5.0
    normalised: bool = True  # log-probabilities per token instead of per answer: OLMo 2's `dpo_norm`
    chosen_nll: NonNegativeFloat = 0.0  # weight of the chosen answer's own negative log-likelihood: in no report


class GrpoStep(Tuning):
    """GRPO with verifiable rewards: advantages within a prompt's group of samples. `batch_size` counts prompts."""

    kind: Literal["grpo"]
    families: list[str] = []  # of generated prompts with verifiers
    samples_per_prompt: Annotated[int, Field(ge=2)] = 8
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.28  # DAPO's; no report gives bounds for GRPO
    kl: NonNegativeFloat = 0.01
    advantage_epsilon: NonNegativeFloat = 1e-8  # added to the group's standard deviation
    bonus: dict[str, float] = {}  # verifier without arguments -> its weight in the reward if it passes
    rollout_epochs: Positive = 1  # passes over each roll-out
    mini_batches: Positive = 1  # of each pass, with an update each
    episodes: NonNegative = 0  # samples in all, as some reports count
    sampler: SamplerElsewhere | None = None  # an engine that answers the prompts; by default the model in training itself

    @property
    def total_steps(self) -> int:
        """Optimiser steps; without `steps`, the updates of all roll-outs."""
        if self.steps or not self.batch_size:
            return self.steps
        prompts = self.episodes / self.samples_per_prompt or self.samples * (self.epochs or 1.0)
        return math.ceil(prompts / self.batch_size) * self.rollout_epochs * self.mini_batches


class RewardModelStep(Tuning):
    """A reward model. Not run by this version."""

    kind: Literal["reward_model"]
    optim: TuningOptim | None = None  # type: ignore[assignment]  # not every report gives its learning rate


class PpoStep(Tuning):
    """PPO, with verifiable rewards or reward models. Not run by this version."""

    kind: Literal["ppo"]
    episodes: NonNegative = 0  # of one run
    ppo_epochs: Positive = 1  # passes over each batch of episodes

    @property
    def total_steps(self) -> int:
        """Optimiser steps; 0 if neither `steps` nor the keys for computing it are given."""
        if self.steps or not self.batch_size:
            return self.steps
        return math.ceil(self.episodes * self.ppo_epochs / self.batch_size)


class SelfKnowledgeStep(Tuning):
    """Self-knowledge: questions about the model itself (Stable LM 2 section 3.3), each with a right answer, trained as SFT
    does, and a wrong one behind a negative token in place of the assistant's. `samples` counts questions."""

    kind: Literal["self_knowledge"]
    about: About | None = None
    examples: dict[str, Amount] = {}  # replayed conversations of an earlier step, against forgetting: as in SFT
    # Their last answers: the parent's own, greedy, or those given, which unlearn what steps since SFT have taught.
    replay_answers: Literal["own", "given"] = "own"
    max_new_tokens: Positive = 56  # of its own answers
    negatives: dict[str, Amount] = {}  # sources of conversations whose last answer is trained behind the negative token
    negative_weight: PositiveFloat = 1.0  # of a token behind it in the loss; the report's; OpenChat's poorer class has 0.1
    loss: Literal["mean", "sum"] = "mean"  # as in SFT; both are weighted

    @property
    def total_steps(self) -> int:
        """Optimiser steps of two answers a question and what is replayed; 0 before supplied rows are counted."""
        amounts = [*self.examples.values(), *self.negatives.values()]
        if self.steps or not self.batch_size or "all" in amounts:
            return self.steps
        more = sum(round((share_of(a) or 0.0) * self.samples) if isinstance(a, str) else a for a in amounts)
        return math.ceil((2 * self.samples + more) * (self.epochs or 1.0) / self.batch_size)


class BestOfNStep(Step):
    """The best of n samples, chosen by reward models, becomes training data. Not run by this version."""

    kind: Literal["best_of_n"]


class BrainStep(Step):
    """BRAIn (Pandey et al. 2024). Not run by this version."""

    kind: Literal["brain"]


class MergeStep(Step):
    """The mean of models specialised in different domains. Not run by this version."""

    kind: Literal["merge"]


class PluginStep(Step):
    """A kind declared by the user's own module: `kind: my_module:SPEC`, a lehr.pipeline.spec.StageSpec. `settings` are its
    configuration's keys."""

    kind: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    settings: dict[str, Any] = {}


PLUGIN = "plugin"


def _tag(value: Any) -> str:
    kind = str(value.get("kind", "") if isinstance(value, dict) else getattr(value, "kind", ""))
    return PLUGIN if ":" in kind else kind


PostStep = Annotated[
    Annotated[SftStep, Tag("sft")]
    | Annotated[DpoStep, Tag("dpo")]
    | Annotated[GrpoStep, Tag("grpo")]
    | Annotated[RewardModelStep, Tag("reward_model")]
    | Annotated[PpoStep, Tag("ppo")]
    | Annotated[SelfKnowledgeStep, Tag("self_knowledge")]
    | Annotated[BestOfNStep, Tag("best_of_n")]
    | Annotated[BrainStep, Tag("brain")]
    | Annotated[MergeStep, Tag("merge")]
    | Annotated[PluginStep, Tag(PLUGIN)],
    Discriminator(_tag),
]


def with_names(steps: Any) -> Any:
    """`steps` as written in a recipe, each with a name: its kind, numbered from the second one on."""
    if not isinstance(steps, list):
        return steps
    taken = {name for step in steps if isinstance(step, dict) and isinstance(name := step.get("name"), str)}
    out = []
    for step in steps:
        if isinstance(step, dict) and not step.get("name") and isinstance(step.get("kind"), str):
            wanted = re.sub(r"[^a-z0-9]+", "-", step["kind"].rpartition(":")[2].lower()).strip("-")
            name, number = wanted, 1
            while name in taken:
                number += 1
                name = f"{wanted}-{number}"
            taken.add(name)
            step = {**step, "name": name}
        out.append(step)
    return out
