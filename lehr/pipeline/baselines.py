"""The node of a recipe's baselines: for which models, and which tokens those read, from the graph's own nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lehr.config.evaluation import TaskPlan
from lehr.config.recipe import Recipe
from lehr.evals.suites import OF_TEXT
from lehr.pipeline.node import Node
from lehr.stages.baselines import BaselinesConfig, Reader, TrainingPhase
from lehr.stages.midtrain import MidtrainConfig
from lehr.stages.pretrain import PretrainConfig

NAME = "baselines"


def baselines(recipe: Recipe, nodes: Sequence[Node], applies: Callable[[TaskPlan, str], bool]) -> list[Node]:
    """One node, for stage 1 and the last pretrained model of `nodes`, or none: if the recipe asks for none, scores no running
    text, or begins with a model whose training data are unknown. `applies`: whether a model is scored on a task."""
    kinds = recipe.evaluation.baselines
    if kinds is None or recipe.stage1 is None:
        return []
    by_name = {node.name: node for node in nodes}
    readers = []
    for model in dict.fromkeys(("stage1", recipe.base_stage)):
        tasks = [plan for plan in recipe.evaluation.tasks if plan.task in OF_TEXT and applies(plan, model)]
        if tasks:
            read = [_phase(by_name, name) for name in _lineage(by_name, model)]
            readers.append(Reader(model=model, read=read, tasks=tasks, in_loop=recipe.evaluation.in_loop_steps > 0))
    if not readers:
        return []
    config = BaselinesConfig(readers=readers, kinds=kinds, window_tokens=recipe.window_tokens, seed=recipe.seed)
    return [Node(NAME, "baselines", config, {role: (role,) for role in ("shards", "tokenizer", "documents")})]


def _lineage(by_name: Mapping[str, Node], model: str) -> list[str]:
    """The training stages that led to `model`, and `model` itself if it is one: oldest first."""
    node, found = by_name[model], list[str]()
    for parent in (*node.inputs.get("parent", ()), *node.inputs.get("ingredients", ())):
        found += _lineage(by_name, parent)
    own = [model] if isinstance(node.config, PretrainConfig | MidtrainConfig) else []
    return list(dict.fromkeys([*found, *own]))


def _phase(by_name: Mapping[str, Node], name: str) -> TrainingPhase:
    """What a stage reads. Batch size and sequence length are stage 1's in all of them; only stage 1 has a batch ramp."""
    first, config = by_name["stage1"].config, by_name[name].config
    assert isinstance(first, PretrainConfig) and isinstance(config, PretrainConfig | MidtrainConfig)
    return TrainingPhase(
        mix=config.mix, tokens=config.tokens, batch_size=first.batch_size, sequence_length=first.sequence_length,
        batch_ramp=first.batch_ramp if config is first else None, data_seed=config.data_seed,
    )  # fmt: skip
