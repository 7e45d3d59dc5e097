"""The contrast of two language models as a reward (Granite 3.0 section 5.3.3): it trains nothing. Whoever uses it reads the two
checkpoints; its artifact names them, and says what it is worth on held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lehr.config.posttraining import RewardModelStep
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.post.rewards.said import announce


class ContrastConfig(RankedConfig):
    """`per_token`: the mean over an answer's tokens instead of their sum."""

    per_token: bool


def contrast_node(step: RewardModelStep, place: StepContext, pairs: Sequence[str]) -> Node:
    """The node of a step."""
    inputs = {"strong": (place.parent,), "weak": (place.reference(step.against),)}
    config = ContrastConfig(per_token=step.per_token, parallel=place.parallel)
    return Node(step.name, "contrast", config, {**inputs, **({"pairs": tuple(pairs)} if pairs else {})})


def run(config: ContrastConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Judge it. Raises UserError if the two models read different tokens."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.distributed.ranks import run_ranks
    from lehr.post.rewards.contrast import Contrast, judge_contrast
    from lehr.post.rewards.scorers import Source, check_agrees
    from lehr.train.fit import RankContext

    both = (inputs["strong"], inputs["weak"])
    source, pairs = Source(attempt.name, tuple(one.folder for one in both), config.per_token), inputs.get("pairs")
    check_agrees(source, Tokenizer.load(both[0].folder), attempt.name)
    work = Contrast(RankContext.of(attempt, config.parallel), source, pairs.folder if pairs else None)
    of = [one.manifest.digest for one in both]
    found: dict[str, Any] = run_ranks(config.parallel.processes, config.parallel.threads, judge_contrast, work, of)
    return Outcome({"reward": found}, processes=config.parallel.processes)


SPEC = StageSpec(
    "contrast",
    ContrastConfig,
    {"strong": Role("checkpoint"), "weak": Role("checkpoint"), "pairs": Role("preferences", optional=True)},
    "reward",
    "ranked",
    "post-training",
    run,
    announce=announce,
)
