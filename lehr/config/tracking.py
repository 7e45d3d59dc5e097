"""Where a run leaves more than its own folder's record of itself."""

from __future__ import annotations

from lehr.config.base import Config
from lehr.config.names import Name


class Tracking(Config):
    """What MLflow is given beside runs, metrics, datasets and logged models, which it gets anyway. No result depends on it."""

    registered_model: Name | None = None  # the exported model becomes a version of it, once for each digest
