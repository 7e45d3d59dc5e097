"""What `lehr run` would do, before it does anything."""

from __future__ import annotations

from lehr.cli.tables import page, plain_table, text
from lehr.config import Recipe
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.explain import manifests
from lehr.pipeline.graph import graph
from lehr.pipeline.local import Survey, survey
from lehr.pipeline.node import Node
from lehr.planning.plan import plan_run
from lehr.report.format import duration
from lehr.tasks.run_location import RunLocation, local


def show(recipe: Recipe, out: str) -> int:
    """Print every stage of `recipe` with what a run into `out` would find of it. Writes nothing. Returns 0; raises UserError
    where the run would be refused before its first stage."""
    nodes, place = graph(recipe), RunLocation(out)
    place.check()
    earlier = [] if place.remote else manifests(place.folder)
    seen = survey(nodes, StageContext(place.store(), fetch=local), earlier)
    table = plain_table(
        f"{recipe.name} into {place.root}; nothing is made", ("stage", "kind", "planned", "now"), right=("planned",)
    )
    for row in _rows(recipe, nodes, seen):
        table.add_row(*map(text, row))
    page(table, *map(text, seen.changed))
    return 0


def _rows(recipe: Recipe, nodes: list[Node], seen: Survey) -> list[tuple[str, str, str, str]]:
    """Times are planned for the stages that train, on the recipe's own machines; of the others none are."""
    planned = {stage.work.name: stage.seconds for stage in plan_run(recipe).stages}
    rows = []
    for node in nodes:
        there = node.name in seen.found
        takes = duration(planned[node.name]) if node.name in planned and not there else ""
        rows.append((node.name, node.kind, takes, "exists" if there else "to be made"))
    return rows
