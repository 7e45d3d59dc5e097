"""The soup as a recorded step: parents checked, fp32 mean, one cast."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.artifact import Artifact, ArtifactRef
from lehr.config.recipe import Recipe
from lehr.soup import average, check_ingredients
from lehr.stage import Job, Outcome, Surroundings, run_stage
from lehr.train.checkpoint import ARCHITECTURE, TOKENIZER, WEIGHTS


def soup(recipe: Recipe, parent: Artifact, ingredients: Sequence[Artifact], around: Surroundings) -> ArtifactRef:
    """Average `ingredients`, the anneals of `parent`. Where the recipe asks for no soup, its first anneal goes on, or
    `parent` where there are none. Raises UserError if the ingredients do not belong together."""
    if recipe.base_stage != "soup":
        return (ingredients[0] if ingredients else parent).ref

    def work(job: Job) -> Outcome:
        check_ingredients(ingredients)
        average(ingredients, job.out / WEIGHTS)
        for name in (ARCHITECTURE, TOKENIZER):
            (job.out / name).write_bytes(ingredients[0].path(name).read_bytes())
        return Outcome("checkpoint", {"ingredients": [a.manifest.stage for a in ingredients], "weights": "equal"})

    return run_stage("soup", work, module=__name__, config={}, parents=list(ingredients), around=around)
