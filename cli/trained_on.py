"""What a finished model was trained on, as far as its artifacts are still there, for the contamination flags of its scores."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.artifacts.artifact import Artifact
from lehr.evals.scores import TRAINED_ON


def trained_on(label: str, lineage: Sequence[Artifact]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The addresses of what the model and its ancestors (`lineage`; none of a model of somebody else) learned from, by the
    roles of an evaluation, and words for what of it nobody compared with evaluation texts, or whose record is not here."""
    found = {role: tuple(address(a) for a in lineage if a.manifest.kind == kind) for role, kind in TRAINED_ON.items()}
    here = {artifact.manifest.digest for artifact in lineage}
    models = [artifact for artifact in lineage if artifact.manifest.kind == "checkpoint"]
    others = [] if models else [f"what {label} was trained on"]
    for model in models:
        kinds = {parent.kind for parent in model.manifest.parents}
        if not kinds & {"checkpoint", "shards"}:  # nobody here trained it
            others.append(f"what {model.manifest.stage} was trained on")
        if model.manifest.config.get("families"):
            others.append(f"the generated prompts of {model.manifest.stage}")
    lost = (parent for artifact in lineage for parent in artifact.manifest.parents if parent.digest not in here)
    others += [f"{parent.stage}, which is not here" for parent in lost]
    return {role: names for role, names in found.items() if names}, list(dict.fromkeys(others))


def address(artifact: Artifact) -> str:
    return artifact.uri if "://" in artifact.uri else str(artifact.folder.absolute())
