"""All kinds of stages. A user's own kind is named `module:SPEC`, a StageSpec in that module."""

from __future__ import annotations

from lehr.pipeline.spec import StageSpec
from lehr.runtime.errors import UserError
from lehr.runtime.plugins import resolve
from lehr.stages import (
    baselines,
    best_of_n,
    brain,
    contrast,
    conversations,
    described,
    documents,
    dpo,
    evaluate,
    export,
    grpo,
    import_hf,
    merge,
    midtrain,
    ngram_model,
    own_answers,
    ppo,
    preferences,
    pretrain,
    prompts,
    quality_classifier,
    reward_model,
    self_knowledge,
    self_knowledge_rows,
    sft,
    shards,
    soup,
    supplied_preferences,
    supplied_ratings,
    tokenizer,
)

_DATA = [quality_classifier.SPEC, ngram_model.SPEC, documents.SPEC, tokenizer.SPEC, shards.SPEC]
_MODELS = [import_hf.SPEC, pretrain.SPEC, midtrain.SPEC, soup.SPEC]
_POST_TRAINING = [
    conversations.SPEC,
    sft.SPEC,
    preferences.SPEC,
    supplied_preferences.SPEC,
    dpo.SPEC,
    prompts.SPEC,
    grpo.SPEC,
    ppo.SPEC,
    brain.SPEC,
    supplied_ratings.SPEC,
    reward_model.SPEC,
    contrast.SPEC,
    best_of_n.SPEC,
    merge.SPEC,
    merge.SEARCHED,
    self_knowledge_rows.SPEC,
    own_answers.SPEC,
    self_knowledge.SPEC,
    described.SPEC,
]
_SCORES = [evaluate.SPEC, baselines.SPEC]
STAGES: dict[str, StageSpec] = {s.kind: s for s in [*_DATA, *_MODELS, *_POST_TRAINING, *_SCORES, export.SPEC]}


def stage(kind: str) -> StageSpec:
    """The StageSpec of a kind of stage. Raises UserError for an unknown kind."""
    found = resolve("kind of stage", kind, STAGES)
    if not isinstance(found, StageSpec):
        raise UserError(f"kind of stage {kind!r} is a {type(found).__name__}", remedy="name a lehr.pipeline.spec.StageSpec")
    return found
