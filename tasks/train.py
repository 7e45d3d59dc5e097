"""Pretraining tasks: stage 1, ramp, anneals, soup."""

from __future__ import annotations

from flytekit import task

from lehr.artifact import ArtifactRef
from tasks.refs import RunRef, opened
from tasks.session import session
from tasks.settings import RANKED, TRAINING, owned


@task(**RANKED)
@owned
def stage1(run: RunRef, shards: ArtifactRef, corpus: ArtifactRef, tokenizer: ArtifactRef) -> ArtifactRef:
    """From random weights, on the first mix."""
    from lehr.stages import pretrain as stages

    return stages.stage1(run.recipe, opened(shards), opened(corpus), opened(tokenizer), session(run).around(run))


@task(**RANKED)
@owned
def ramp(run: RunRef, parent: ArtifactRef, shards: ArtifactRef, corpus: ArtifactRef, tokenizer: ArtifactRef) -> ArtifactRef:
    """The parent's rate, constant, on the better mix."""
    from lehr.stages import pretrain as stages

    around = session(run).around(run)
    return stages.ramp(run.recipe, opened(parent), opened(shards), opened(corpus), opened(tokenizer), around)


@task(**RANKED)
@owned
def anneal(
    index: int, run: RunRef, parent: ArtifactRef, shards: ArtifactRef, corpus: ArtifactRef, tokenizer: ArtifactRef
) -> ArtifactRef:
    """From the parent's rate to zero: run `index` of the recipe's anneals, one item of the map."""
    from lehr.stages import pretrain as stages

    around = session(run).around(run)
    return stages.anneal(run.recipe, index, opened(parent), opened(shards), opened(corpus), opened(tokenizer), around)


@task(**TRAINING)
@owned
def soup(run: RunRef, parent: ArtifactRef, ingredients: list[ArtifactRef]) -> ArtifactRef:
    """The mean of the anneals of `parent`."""
    from lehr.stages import soup as soup_stage

    return soup_stage.soup(run.recipe, opened(parent), [opened(ref) for ref in ingredients], session(run).around(run))
