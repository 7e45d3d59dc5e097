"""Data tasks."""

from __future__ import annotations

from flytekit import task

from lehr.artifact import ArtifactRef
from tasks.refs import RunRef, opened
from tasks.session import session
from tasks.settings import TRAINING, owned


@task(**TRAINING)
@owned
def documents(run: RunRef) -> ArtifactRef:
    """Sources to kept documents, with every drop on record."""
    from lehr.stages import data as stages

    return stages.documents(run.recipe, session(run).around(run))


@task(**TRAINING)
@owned
def tokenizer(run: RunRef, corpus: ArtifactRef) -> ArtifactRef:
    """Kept documents to a byte-level BPE."""
    from lehr.stages import data as stages

    return stages.tokenizer(run.recipe, opened(corpus), session(run).around(run))


@task(**TRAINING)
@owned
def shards(run: RunRef, corpus: ArtifactRef, tokenizer: ArtifactRef) -> ArtifactRef:
    """Kept documents to token shards."""
    from lehr.stages import data as stages

    return stages.shards(run.recipe, opened(corpus), opened(tokenizer), session(run).around(run))
