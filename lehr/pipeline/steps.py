"""The nodes of one step of post-training."""

from __future__ import annotations

from pydantic import ValidationError

from lehr.config.posttraining import (
    BestOfNStep,
    DpoStep,
    MergeStep,
    PluginStep,
    RewardModelStep,
    RollOutStep,
    SelfKnowledgeStep,
    SftStep,
    Step,
)
from lehr.pipeline.node import Node
from lehr.pipeline.registry import STAGES, stage
from lehr.pipeline.step_context import StepContext
from lehr.runtime.errors import UserError, validators_words


def runs(step: Step) -> bool:
    """Whether this version can run a step: its kind is implemented, and its data exist."""
    if isinstance(step, SftStep):
        return bool(step.examples)
    if isinstance(step, DpoStep):
        return step.pairs is not None or bool(step.examples)
    if isinstance(step, MergeStep):
        return bool(step.parents)
    if isinstance(step, RollOutStep):
        return bool(step.families or step.examples) and step.optim is not None
    if isinstance(step, RewardModelStep):
        data = step.pairs is not None or bool(step.examples)
        return bool(step.against) if step.loss == "contrastive" else data and step.optim is not None and step.batch_size > 0
    if isinstance(step, BestOfNStep):
        return bool(step.families or step.examples) and step.optim is not None
    if isinstance(step, SelfKnowledgeStep):
        return step.about is not None and step.samples > 0 and step.batch_size > 0
    return isinstance(step, PluginStep)


def expanded(step: Step, place: StepContext) -> list[Node]:
    if isinstance(step, PluginStep):
        return [_plugin(step, place)]
    kind = str(getattr(step, "kind", "")) if runs(step) else "described"
    expand = STAGES[kind].expand
    assert expand is not None
    return expand(step, place)


def _plugin(step: PluginStep, place: StepContext) -> Node:
    """The node of a step of the user's own kind: its settings, and those common settings for which its configuration has a
    field. Raises UserError for settings that it does not accept."""
    spec = stage(step.kind)
    told = {"seed": place.seed(step.name), "parallel": place.parallel, "watch": place.watch}
    fields = {key: value for key, value in told.items() if key in spec.config.model_fields}
    try:
        config = spec.config.model_validate({**fields, **step.settings})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, ("posttraining", step.name, "settings", *first["loc"])))
        raise UserError(f"{key}: {validators_words(first['msg'])}", remedy=f"see {step.kind}") from None
    return Node(step.name, step.kind, config, {"parent": (place.parent,)} if "parent" in spec.roles else {})
