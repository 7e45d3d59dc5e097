"""What a reward is worth, in a line."""

from __future__ import annotations

from typing import Any

from lehr.artifacts.artifact import Artifact
from lehr.runtime.ports import Tracker


def announce(config: Any, artifact: Artifact, tracker: Tracker) -> None:
    """Report a finished reward model or contrast."""
    tracker.note(f"{artifact.manifest.stage}: {said(artifact.manifest.meta['reward'])}")


def said(reward: dict[str, Any]) -> str:
    """Its accuracy on held-out pairs, in all and by domain."""
    if not reward.get("pairs"):
        return "no held-out pairs to judge it by"
    domains = reward["domains"]
    each = ", ".join(f"{name} {_share(of)}" for name, of in domains.items()) if len(domains) > 1 else ""
    return f"{_share(reward)} of {reward['pairs']:,} held-out pairs in the right order{f' ({each})' if each else ''}"


def _share(of: dict[str, Any]) -> str:
    error = f" ±{100 * of['stderr']:.1f}" if of["stderr"] is not None else ""
    return f"{100 * of['accuracy']:.1f} %{error}"
