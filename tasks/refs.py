"""What tasks pass to each other besides artifacts."""

from __future__ import annotations

from lehr.config.base import Config


class RunRef(Config):
    """One run: its location, its pinned recipe, and the command that started it."""

    root: str
    recipe: str  # SHA-256 of the pinned recipe, ROOT/recipes/SHA.yaml
    key: str  # names the run in MLflow across restarts
    command: str = ""
    source: str = ""  # the recipe as the user named it
