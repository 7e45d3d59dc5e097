"""Evaluation and export tasks."""

from __future__ import annotations

from typing import Optional

from flytekit import task

from lehr.artifact import ArtifactRef
from tasks.refs import RunRef, opened
from tasks.session import session
from tasks.settings import RANKED, TRAINING, owned


@task(**RANKED)
@owned
def evaluate(
    checkpoint: ArtifactRef,
    run: RunRef,
    corpus: ArtifactRef,
    pairs: Optional[ArtifactRef] = None,  # noqa: UP045 (flytekit)
) -> ArtifactRef:
    """Every task of the plan on one frozen checkpoint; chat models are judged on `pairs` too."""
    from lehr.stages import evaluate as stages

    judged = opened(pairs) if pairs is not None else None
    return stages.evaluate(run.recipe, opened(checkpoint), opened(corpus), judged, session(run).around(run))


@task(**TRAINING)
@owned
def export(run: RunRef, checkpoint: ArtifactRef, shards: ArtifactRef) -> ArtifactRef:
    """The final model for Hugging Face, compared with ours."""
    from lehr.stages import publish

    return publish.export(run.recipe, opened(checkpoint), opened(shards), session(run).around(run))
