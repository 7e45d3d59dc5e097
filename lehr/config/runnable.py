"""Whether this version can run a recipe, or only plan it."""

from __future__ import annotations

from lehr.config.data import ExternalSource
from lehr.config.recipe import Recipe
from lehr.errors import UserError


def check_runnable(recipe: Recipe) -> None:
    """Raises UserError, with all that is missing in one line: data that must be supplied, stages that are not run."""
    absent = {name: source for name, source in recipe.data.sources.items() if isinstance(source, ExternalSource)}
    kinds = ", ".join(dict.fromkeys(stage.kind for stage in recipe.posttraining))
    lacks, remedies = [], []
    if absent:
        first = next(iter(absent))
        lacks.append(f"{len(absent)} of its sources must be supplied: {', '.join(absent)}")
        remedies.append(
            "for each, put JSON lines on a disk and set data.sources.NAME to {kind: jsonl, path: ..., license: ...}; "
            f"{first} is at {absent[first].uri}"
        )
    if kinds:
        what = f"its post-training plan ({kinds}) is a description that this version does not run"
        lacks.append(f"and {what}" if absent else what)
        remedies.append("set posttraining to [] and use the sections sft, dpo and rlvr for chat training")
    if lacks:
        remedy = f"{'; '.join(remedies)}. `lehr plan` works without either"
        raise UserError("; ".join(lacks), where=f"recipe {recipe.name}", remedy=remedy)
