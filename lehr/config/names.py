"""Names that people choose in a recipe: two types for all of them. Each is one component of a path."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST = 64  # characters; a file's name has 255 bytes, and prefixes, suffixes and hashes stand around it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHOWN = 40


def _checked(name: str) -> str:
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        raise ValueError(
            f"{shown!r} is no name; use at most {LONGEST} letters, digits, '.', '_' and '-', with a letter or digit first"
        )
    return name


# Of a recipe, a source, a mix.
Name = Annotated[str, AfterValidator(_checked)]

# What becomes a node of the graph: Kubernetes and Flyte take 63 characters of [a-z0-9-]; `scores-NAME` must fit too.
STEP_NAME = r"^[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?$"
StepName = Annotated[str, Field(pattern=STEP_NAME)]
