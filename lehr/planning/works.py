"""The training stages of a recipe as amounts of work, in the order of its graph."""

from __future__ import annotations

from lehr.config.recipe import Recipe
from lehr.pipeline.graph import graph
from lehr.pipeline.registry import stage
from lehr.planning.work import PlanPlace, Work


def works(recipe: Recipe) -> tuple[list[Work], list[str]]:
    """Every stage that trains, and a note on each part that cannot be counted.

    Documents, tokenizer, scores, soup, sampled pairs and export train nothing and are left out.
    """
    nodes = graph(recipe)
    place = PlanPlace(recipe.model, recipe.seed, nodes, recipe.base.training if recipe.base else None)
    unknown: list[str] = []
    for node in nodes:
        planned = stage(node.kind).plan
        if planned is None:
            continue
        found: Work | None = planned(node, place)
        if found is None:
            unknown.append(node.name)
        else:
            place.done[node.name] = found
    rolled = [w.name for w in place.done.values() if w.how == "at most" and w.kind in ("ppo", "grpo", "brain")]
    notes = [f"{', '.join(rolled)}: only the updates are counted, not sampling, reference and value passes"] if rolled else []
    notes += [f"not planned, since steps, batch or length are not given: {', '.join(unknown)}"] if unknown else []
    return list(place.done.values()), notes
