"""What a user may add in a module of one's own: a kind of stage, a filter, a verifier, a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lehr.config.parallel import Parallel
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.runtime.metrics import Metric, declare

declare(Metric("shoutiness", "share of capitals", "share", "lower"))


def no_shouting(text: str, text_type: str) -> str | None:
    """A filter: drops what is mostly capitals."""
    capitals = sum(letter.isupper() for letter in text)
    return "shouting" if capitals > 0.05 * len(text) else None


def brief(args: Mapping[str, Any], text: str) -> bool:
    """A verifier without arguments."""
    return len(text) < 40


class HalveConfig(StageConfig):
    """A step that multiplies every weight."""

    factor: float
    seed: int
    parallel: Parallel


def run(config: HalveConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """The parent with its weights scaled."""
    from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint

    parent = inputs["parent"]
    loaded = load_checkpoint(parent)
    weights = {name: p.detach() * config.factor for name, p in loaded.model.named_parameters()}
    save_checkpoint(attempt.out, loaded.architecture, weights, parent.folder, chat=loaded.chat)
    return Outcome({"factor": config.factor})


SPEC = StageSpec("halve", HalveConfig, {"parent": Role("checkpoint")}, "checkpoint", "accelerator", "post-training", run)
