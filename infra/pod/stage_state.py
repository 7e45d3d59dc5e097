"""What a person is shown of one stage of a run on a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageState:
    """`state` is waiting, running, finished or failed; `pods` how many there were; `said` what is to be known of the last."""

    stage: str
    state: str
    pod: str
    node: str
    pods: int
    said: str


def with_remedy(said: str) -> str:
    """What is said of a pod that waits, and what to do about a quota."""
    if "exceeded quota" not in said:
        return said
    return f"{said.rstrip('. ')}. Wait until others end, ask for less with `compute` in the recipe, or have the quota raised"
