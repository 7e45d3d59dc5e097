"""Post-training tasks."""

from __future__ import annotations

from typing import Optional

from flytekit import task

from lehr.artifact import ArtifactRef
from tasks.refs import RunRef, opened
from tasks.session import session
from tasks.settings import RANKED, owned


@task(**RANKED)
@owned
def sft(run: RunRef, parent: ArtifactRef, shards: ArtifactRef) -> ArtifactRef:
    """Supervised fine-tuning on conversations, with pretraining text replayed."""
    from lehr.stages import post as stages

    return stages.sft(run.recipe, opened(parent), opened(shards), session(run).around(run))


@task(**RANKED)
@owned
def pairs(run: RunRef, parent: ArtifactRef) -> Optional[ArtifactRef]:  # noqa: UP045 (flytekit)
    """The model's own answers, judged by verifiers, as preference pairs."""
    from lehr.stages import post as stages

    return stages.pairs(run.recipe, opened(parent), session(run).around(run))


@task(**RANKED)
@owned
def dpo(
    run: RunRef,
    parent: ArtifactRef,
    pairs: Optional[ArtifactRef] = None,  # noqa: UP045 (flytekit)
) -> ArtifactRef:
    """Preference tuning on the pairs."""
    from lehr.stages import post as stages

    return stages.dpo(run.recipe, opened(parent), opened(pairs) if pairs else None, session(run).around(run))


@task(**RANKED)
@owned
def rlvr(run: RunRef, parent: ArtifactRef) -> ArtifactRef:
    """GRPO with verifiable rewards."""
    from lehr.stages import post as stages

    return stages.rlvr(run.recipe, opened(parent), session(run).around(run))
