"""A workflow of one's own (docs/architecture.md, How to add): one recipe under two seeds, side by side."""

from __future__ import annotations

from flytekit import workflow

from lehr.workflows.run import stages


@workflow
def two_seeds(recipe: str, out_a: str, out_b: str) -> tuple[str, str]:
    """Where both reports are."""
    first = stages(recipe=recipe, out=out_a, overrides=["seed=1"])
    second = stages(recipe=recipe, out=out_b, overrides=["seed=2"])
    return first, second
