"""How a merge was made, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_METHODS = {"slerp": "SLERP", "ties": "TIES", "dare_linear": "DARE", "dare_ties": "DARE with TIES' signs"}


def how(said: Mapping[str, Any], parents: Sequence[str]) -> str:
    """`linear: code 0.25, math 0.75`, with the method's other settings: from what a merge's artifact says of it
    (lehr.post.merge_work) and its parents' names."""
    settings = dict(said["settings"])
    weights = settings.pop("weights", None) or [None] * len(parents)
    named = [name if w is None else f"{name} {w:.4g}" for name, w in zip(parents, weights, strict=True)]
    plain = [] if settings.pop("normalise", True) else ["weights not normalised"]
    rest = [f"{key} {value:g}" for key, value in settings.items()]
    return f"{_METHODS.get(str(said['method']), str(said['method']))}: {', '.join([*named, *rest, *plain])}"
