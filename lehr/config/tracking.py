"""What a run records outside its own folder."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from lehr.config.base import Config
from lehr.config.names import Name

_ALIAS = re.compile(r"(?!(?:latest|v\d+)$)[A-Za-z0-9_-]{1,64}", re.IGNORECASE)  # MLflow's rule, and the names that it reserves


def _checked(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise ValueError(
            f"{alias[:40]!r} is not a valid alias; use letters, digits, '_' and '-', not 'latest' or 'v' and a number"
        )
    return alias


Alias = Annotated[str, AfterValidator(_checked)]


class Tracking(Config):
    """What MLflow gets besides runs, metrics, datasets and logged models, which it always gets. Does not affect a result."""

    registered_model: Name | None = None  # the exported model becomes a version of this one, once for each digest
    registered_alias: Alias | None = "released"  # which that version then gets: models:/NAME@released; null: none
