"""Ranks on hosts that share no folder: each host replaces rank 0's paths by paths of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from lehr.runtime.ports import FencingToken
from lehr.runtime.rank_environment import hosts


def separate_folders(fencing: FencingToken) -> bool:
    """Whether other machines' ranks see other folders than rank 0 does."""
    return hosts() > 1 and not fencing.shared


def with_local_paths(argument: Any, fencing: FencingToken | None = None) -> Any:
    """A stage's `argument` (a RankContext, or a dataclass that has one) with rank 0's paths replaced by this machine's. Fetches
    the artifacts among them. Raises what fetching raises."""
    if not dataclasses.is_dataclass(argument) or isinstance(argument, type):
        return argument
    context = getattr(argument, "context", None)
    fencing = fencing or getattr(context or argument, "fencing", None)
    if fencing is None or not separate_folders(fencing):
        return argument
    changes: dict[str, Any] = {} if context is None else {"context": with_local_paths(context, fencing)}
    for field in dataclasses.fields(argument):
        if isinstance(path := getattr(argument, field.name), Path):
            changes[field.name] = fencing.here(path)
    return dataclasses.replace(argument, **changes)
