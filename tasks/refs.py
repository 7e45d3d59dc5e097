"""What tasks pass to each other besides artifacts."""

from __future__ import annotations

from lehr.config.base import Config


class RunRef(Config):
    """One run: where its artifacts live, which of the recipes pinned there it follows, and how it was called."""

    root: str
    recipe: str  # SHA-256 of the pinned recipe, ROOT/recipes/SHA.yaml
    key: str  # names the run in MLflow across restarts
    command: str = ""
    source: str = ""  # the recipe as it was named there
