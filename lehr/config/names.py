"""Two types for all names that people choose in a recipe. Each name is one component of a path."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST = 64  # characters; a file name may have 255 bytes, including our prefixes, suffixes and hashes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHOWN = 40


def _checked(name: str) -> str:
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        raise ValueError(
            f"{shown!r} is not a valid name; use at most {LONGEST} letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return name


# A recipe's, a source's, a mix's name.
Name = Annotated[str, AfterValidator(_checked)]

# The name of a node of the graph: Kubernetes and Flyte accept 63 characters of [a-z0-9-], and `scores-NAME` must fit too.
STEP_NAME = r"^[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?$"
StepName = Annotated[str, Field(pattern=STEP_NAME)]


def is_address(name: str) -> bool:
    """Whether a model that a recipe or a graph names is an artifact of another run: names of steps and nodes have no slash."""
    return "/" in name
