"""Post-training: an ordered list of steps, each a kind with its own keys. The steps that a recipe lists are those that run.

A step starts from the model before it, or from the one named by `parent`. Steps of released models whose data are held by
others describe in `supply` what must be supplied; `reported` holds a report's facts about them that no code uses.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from lehr.config.base import NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.chat import Amount, share_of
from lehr.config.merging import MergeMethod, MergeSearch
from lehr.config.names import Name
from lehr.config.pairs import Pairs as Pairs
from lehr.config.roll_out_steps import BrainStep as BrainStep
from lehr.config.roll_out_steps import GrpoStep as GrpoStep
from lehr.config.roll_out_steps import PpoStep as PpoStep
from lehr.config.roll_out_steps import RewardedStep as RewardedStep
from lehr.config.roll_out_steps import RollOutStep as RollOutStep
from lehr.config.self_knowledge import About
from lehr.config.steps import Step as Step
from lehr.config.steps import Tuning as Tuning
from lehr.config.steps import TuningOptim as TuningOptim

HELPSTEER2 = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")  # rated from 0 to 4


class Replaying(Tuning):
    """A step on conversations that reads pretraining text beside them, against forgetting: in no report."""

    replay_rows: NonNegative = 0  # windows of pretraining text added to each batch
    replay_mix: str = ""  # of which mix


class SftStep(Replaying):
    """Supervised fine-tuning on conversations, loss on the assistant's tokens only."""

    kind: Literal["sft"]
    examples: dict[str, Amount] = {}  # name of a source in `chat`, or family of generated conversations -> how much of it
    loss: Literal["mean", "sum"] = "mean"  # over a batch's tokens; sum: each conversation's sum, over a batch's conversations


class DpoStep(Tuning):
    """Direct preference optimisation (Rafailov et al. 2023); the defaults are those of OLMo 2's code."""

    kind: Literal["dpo"]
    pairs: Pairs | None = None
    examples: dict[str, Amount] = {}  # supplied preferences in place of `pairs`: name of a source in `chat` -> how much of it
    beta: PositiveFloat = 5.0
    normalised: bool = True  # log-probabilities per token instead of per answer: OLMo 2's `dpo_norm`
    chosen_nll: NonNegativeFloat = 0.0  # weight of the chosen answer's own negative log-likelihood: in no report


class RewardModelStep(Tuning):
    """A reward model, begun from the step's parent: one number for an answer, read at its last token. It is no language model:
    later steps do not start from it, they name it in their `reward_models`. `contrastive` trains nothing: its reward is the
    parent's log-probability of an answer less that of `against`."""

    kind: Literal["reward_model"]
    optim: TuningOptim | None = None  # type: ignore[assignment]  # not every report gives its learning rate
    loss: Literal["bradley-terry", "multi-aspect", "contrastive"] = "bradley-terry"
    pairs: Pairs | None = None
    examples: dict[str, Amount] = {}  # supplied preferences in place of `pairs`; of multi-aspect, rated answers
    centre: NonNegativeFloat = 0.0  # weight of the squared sum of a pair's rewards, which holds their mean at 0: in no report
    aspects: dict[Name, float] = {}  # multi-aspect: what is rated -> its weight in the reward; {}: HelpSteer2's five, equally
    against: str = ""  # contrastive: the weaker model, by its name or its artifact's address
    per_token: bool = False  # contrastive: the mean over an answer's tokens instead of their sum

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each aspect; empty for other losses."""
        if self.loss != "multi-aspect":
            return {}
        return dict(self.aspects) or dict.fromkeys(HELPSTEER2, 1 / len(HELPSTEER2))


class SelfKnowledgeStep(Replaying):
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


class BestOfNStep(Tuning):
    """The best of `n` answers to each prompt becomes training data of SFT: chosen by reward models, or by the prompts'
    verifiers. `samples` counts generated prompts of one iteration, `batch_size` conversations."""

    kind: Literal["best_of_n"]
    optim: TuningOptim | None = None  # type: ignore[assignment]  # the report does not give its learning rate
    families: list[str] = []  # of generated prompts with verifiers
    examples: dict[str, Amount] = {}  # name of a source of prompts or of conversations in `chat` -> how much of it
    reward_models: dict[str, PositiveFloat] = {}  # name, or artifact's address -> weight in the ensemble; {}: the verifiers
    ensemble: Literal["arithmetic", "geometric"] = "arithmetic"  # mean of z-scores, or of ranks (Granite 3.0 section 5.3.3)
    n: Annotated[int, Field(ge=2)] = 64  # Granite 3.0 section 5.3.2
    iterations: Positive = 1  # each samples from the model of the one before
    loss: Literal["mean", "sum"] = "mean"  # as of SFT
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56

    @property
    def total_steps(self) -> int:
        """Optimiser steps, if they are given: else as many as `epochs` over the best answers make, not all prompts have one."""
        return self.steps


class MergeStep(MergeMethod, Step):
    """Checkpoints of one ancestry merged into one, such as models specialised in different domains (Granite 3.0 section 5.4).
    Nothing is trained."""

    kind: Literal["merge"]
    parents: list[str] = []  # two or more: names of models before this step, or addresses of other runs' checkpoints
    base: str = ""  # ancestor whose differences ties and dare merge: a name or an address; by default the nearest common one
    search: MergeSearch | None = None  # of the weights, on dev; of linear alone


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
