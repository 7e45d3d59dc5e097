"""What a run records outside its own folder."""

from __future__ import annotations

from lehr.config.base import Config
from lehr.config.names import Name


class Tracking(Config):
    """What MLflow gets besides runs, metrics, datasets and logged models, which it always gets. Does not affect a result."""

    registered_model: Name | None = None  # the exported model becomes a version of this one, once for each digest
