"""The soup as a stage of its own: ingredients checked, mean in fp32, one cast."""

from __future__ import annotations

from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec


class SoupConfig(StageConfig):
    """No settings: all ingredients have equal weight."""


def run(config: SoupConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the mean of the ingredients. Raises UserError if they do not belong together."""
    from lehr.post.merging import average, check_ingredients
    from lehr.train.checkpointing.checkpoint import ARCHITECTURE, WEIGHTS, copy_tokenizer

    ingredients = inputs.many("ingredients")
    check_ingredients(ingredients)
    average(ingredients, attempt.out / WEIGHTS)
    # The same in all: check_ingredients.
    (attempt.out / ARCHITECTURE).write_bytes(ingredients[0].path(ARCHITECTURE).read_bytes())
    copy_tokenizer(ingredients[0].folder, attempt.out)
    return Outcome({"ingredients": [a.manifest.stage for a in ingredients], "weights": "equal"})


SPEC = StageSpec("soup", SoupConfig, {"ingredients": Role("checkpoint", many=True)}, "checkpoint", "cpu", "soup", run)
