"""The soup as a stage of its own: ingredients checked, mean in fp32, one cast."""

from __future__ import annotations

from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec


class SoupConfig(StageConfig):
    """No settings: all ingredients have equal weight."""


def run(config: SoupConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the mean of the ingredients. Raises UserError if they do not belong together."""
    from lehr.post.merging import average, check_ingredients
    from lehr.train.checkpointing.checkpoint import ARCHITECTURE, TOKENIZER, WEIGHTS

    ingredients = inputs.many("ingredients")
    check_ingredients(ingredients)
    average(ingredients, attempt.out / WEIGHTS)
    for name in (ARCHITECTURE, TOKENIZER):  # the same in all: check_ingredients
        (attempt.out / name).write_bytes(ingredients[0].path(name).read_bytes())
    return Outcome({"ingredients": [a.manifest.stage for a in ingredients], "weights": "equal"})


SPEC = StageSpec("soup", SoupConfig, {"ingredients": Role("checkpoint", many=True)}, "checkpoint", "cpu", "soup", run)
