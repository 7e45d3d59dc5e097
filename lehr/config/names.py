"""Names that people choose, of what becomes a node of the graph: one pattern for all of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Kubernetes and Flyte take 63 characters of [a-z0-9-]; `scores-NAME` must fit too.
STEP_NAME = r"^[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?$"
StepName = Annotated[str, Field(pattern=STEP_NAME)]
