"""The graph of a recipe: its stages in the order in which they run. This order is known nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

from lehr.config.ancestry import made_of
from lehr.config.evaluation import TaskPlan
from lehr.config.posttraining import DpoStep, Replaying, RewardModelStep, SelfKnowledgeStep
from lehr.config.pretraining import AnnealRun, Ramp
from lehr.config.recipe import Recipe
from lehr.config.self_knowledge import About
from lehr.data.synthetic.conversations import FAMILIES
from lehr.evals.scores import EvaluateConfig
from lehr.evals.suites import NEEDS_ABOUT, NEEDS_CORPUS, NEEDS_PAIRS
from lehr.pipeline.baselines import baselines
from lehr.pipeline.node import REPORT, Node, needed
from lehr.pipeline.registry import stage
from lehr.pipeline.step_context import Reward, StepContext
from lehr.pipeline.steps import expanded, runs
from lehr.pipeline.task_checks import check_named, check_tasks, compared_tasks
from lehr.pipeline.text_models import text_models
from lehr.pipeline.trained_on import trained_on
from lehr.runtime import seeds
from lehr.runtime.errors import UserError
from lehr.stages.documents import DocumentsConfig
from lehr.stages.export import ExportConfig
from lehr.stages.import_hf import ImportConfig
from lehr.stages.midtrain import MidtrainConfig
from lehr.stages.pretrain import PretrainConfig
from lehr.stages.shards import ShardsConfig
from lehr.stages.soup import SoupConfig
from lehr.stages.tokenizer import TokenizerConfig

Decay = Literal["constant", "linear", "exponential"]
SCORES = "scores-"  # prefix of the name of a stage that scores a model


def graph(recipe: Recipe) -> list[Node]:
    """The stages of `recipe`; sections that it omits make none. Raises UserError for unknown tasks, kinds and stages."""
    nodes = _Builder(recipe).nodes()
    _check_named(recipe, nodes)
    return nodes


def _sampled(node: Node) -> bool:
    """Whether a node made for a step is sampled from a finished model, and so made right after it."""
    return "parent" in node.inputs and stage(node.kind).output == "preferences"


def _check_named(recipe: Recipe, nodes: list[Node]) -> None:
    known = [*dict.fromkeys(name for node in nodes for name in (node.name, node.kind)), REPORT]
    for name in recipe.compute.stages:
        if name not in known:
            remedy = f"stages and kinds of stages are {', '.join(known)}"
            raise UserError("the recipe has no such stage", where=f"compute.stages.{name}", remedy=remedy)


class _Builder:
    """Makes the nodes of one recipe. A model has a label, used in names and scores, and a reference: the same text, or, for a
    base from another run, that checkpoint's address."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.seed = recipe, recipe.seed
        self.references: dict[str, str] = {}  # label -> reference, if they differ
        if recipe.base and recipe.base.checkpoint:
            self.references["base"] = recipe.base.checkpoint
        check_tasks(recipe)
        self.steps = self._steps()

    def nodes(self) -> list[Node]:
        """In order: data, each model followed by what is sampled from it and its scores, the export."""
        made = self._data()
        made += self._rows({node.name for node in made})
        for group in self._pretraining():  # siblings are all made before any is scored
            made += group
            for label in [node.name for node in group] or ["base"]:
                made += self._finished(label)
        made += baselines(self.recipe, made, lambda plan, label: self._applies(plan, label, pairs=False))
        for nodes in self.steps.values():
            made += [node for node in nodes[:-1] if not _sampled(node) and node not in made]
            made.append(nodes[-1])  # those sampled from a model are made after it
            made += self._finished(nodes[-1].name)
        last = self.recipe.last_model
        shards = {"shards": ("shards",)} if self._mixes else {}
        made.append(Node("export", "export", ExportConfig(), {"checkpoint": (self._reference(last),), **shards}))
        return needed(made, [node.name for node in made if stage(node.kind).phase != "data"])

    def _reference(self, label: str) -> str:
        return self.references.get(label, label)

    def _rows(self, known: set[str]) -> Iterator[Node]:
        """The nodes that make rows for steps out of data alone: what is wrong with a user's is found before anything is trained
        or scored. `known` are the data's nodes."""
        for node in (node for nodes in self.steps.values() for node in nodes[:-1]):
            if known.issuperset(node.sources):
                known.add(node.name)
                yield node

    # -- data

    @cached_property
    def _mixes(self) -> list[str]:
        """Names of the mixes in use."""
        r = self.recipe
        used = [section.mix for section in (r.stage1, r.ramp) if section]
        used += [run.mix for run in (r.anneals.runs if r.anneals else [])]
        used += [step.replay_mix for step in r.posttraining if isinstance(step, Replaying) and step.replay_rows]
        return list(dict.fromkeys(used))

    def _data(self) -> list[Node]:
        """Documents, tokenizer, shards: all that could be needed; `needed` removes the rest."""
        r, made = self.recipe, list[Node]()
        if r.data:
            for task in (tasks := r.data.decontamination.tasks) or []:
                check_named(task, "data.decontamination.tasks")
            config = DocumentsConfig(
                data=r.data, seed=seeds.derive(self.seed, "documents"), evaluation_seed=self.seed,
                decontaminate=compared_tasks(r) if tasks is None else tasks,
            )  # fmt: skip
            config.uses()  # a missing filter of the user's own is reported now
            made = text_models(r.data, config.seed)
            made.append(Node("documents", "documents", config, {"models": tuple(n.name for n in made)} if made else {}))
        made += self._tokenizer()
        if r.data:
            used = sorted({name for mix in self._mixes for name in r.data.mixes[mix].sources})  # sets have no fixed order
            inputs = {"documents": ("documents",), "tokenizer": ("tokenizer",)}
            made.append(Node("shards", "shards", ShardsConfig.of(r.data, used), inputs))
        return made

    def _tokenizer(self) -> list[Node]:
        """The tokenizer's nodes. A base model brings its own, unless a file is given for a Hugging Face model."""
        r, nodes = self.recipe, list[Node]()
        given = r.tokenizer is not None and bool(r.tokenizer.path)
        if r.tokenizer and (given or not r.base):
            sources = [] if given or r.data is None else list(r.data.sources)
            inputs = {} if given else {"documents": ("documents",)}
            made = TokenizerConfig(tokenizer=r.tokenizer, sources=sources, rows=r.model.vocab_size)
            nodes.append(Node("tokenizer", "tokenizer", made, inputs))
        if r.base and r.base.huggingface:
            config = ImportConfig(folder=r.base.huggingface, model=r.model)
            nodes.append(Node("base", "import_hf", config, {"tokenizer": ("tokenizer",)} if given else {}))
        if not nodes or nodes[0].name == "base":
            checkpoint = {"checkpoint": (self._reference("base"),)}
            nodes.append(Node("tokenizer", "tokenizer", TokenizerConfig(rows=r.model.vocab_size), checkpoint))
        return nodes

    # -- pretraining

    def _pretraining(self) -> Iterator[list[Node]]:
        """Groups of sibling nodes; an empty group stands for a base that exists already."""
        r = self.recipe
        last = "base" if r.base else "stage1"
        yield [self._stage1()] if r.stage1 else []
        if r.ramp:
            seed = seeds.derive(self.seed, "data", "ramp")
            yield [self._midtrain("ramp", last, r.ramp, "constant", seed)]
            last = "ramp"
        if r.anneals:
            a, group = r.anneals, list[Node]()
            for name, run in zip(a.names, a.runs, strict=True):
                seed = seeds.derive(self.seed, "data", "anneal", run.seed)
                group.append(self._midtrain(name, last, run, a.decay, seed))
            yield group
        if r.base_stage == "soup":
            yield [Node("soup", "soup", SoupConfig(), {"ingredients": tuple(node.name for node in group)})]

    @cached_property
    def _engine(self) -> dict[str, Any]:
        """Settings that all stages of next-token training share."""
        r = self.recipe
        how_often = {"in_loop_steps": r.evaluation.in_loop_steps, "watch": r.watch, "evaluation_seed": self.seed}
        return {"precision": r.precision, "compile": r.compile, "parallel": r.parallel, **how_often}

    def _reads(self) -> dict[str, tuple[str, ...]]:
        return {name: (name,) for name in ("shards", "documents", "tokenizer")}

    def _stage1(self) -> Node:
        r = self.recipe
        assert r.stage1 is not None and r.data is not None
        s = r.stage1
        config = PretrainConfig(
            model=r.model, mix=r.data.mixes[s.mix], tokens=s.tokens, batch_size=s.batch_size,
            sequence_length=s.sequence_length, optim=s.optim, schedule=s.schedule, batch_ramp=s.batch_ramp,
            document_mask=s.document_mask, mask_repeats=s.mask_repeats, init_seed=seeds.derive(self.seed, "init"),
            data_seed=seeds.derive(self.seed, "data", "stage1"), checkpoint_steps=s.checkpoint_steps, **self._engine,
        )  # fmt: skip
        return Node("stage1", "pretrain", config, self._reads())

    def _midtrain(self, name: str, parent: str, run: Ramp | AnnealRun, decay: Decay, data_seed: int) -> Node:
        r = self.recipe
        assert r.data is not None
        section = run if isinstance(run, Ramp) else r.anneals
        assert section is not None
        rollbacks = r.stage1 is None or r.stage1.optim.guard.rollback is not None  # unknown for a base: assume that it may
        config = MidtrainConfig(
            mix=r.data.mixes[run.mix], tokens=run.tokens, decay=decay, data_seed=data_seed, rollbacks=rollbacks,
            checkpoint_steps=section.checkpoint_steps, **self._engine,
        )  # fmt: skip
        return Node(name, "midtrain", config, {**self._reads(), "parent": (self._reference(parent),)})

    # -- post-training

    def _steps(self) -> dict[str, list[Node]]:
        """The nodes of each post-training step by its name: first those made for it, last its model."""
        r, made, parent = self.recipe, dict[str, list[Node]](), self.recipe.base_stage
        apart = r.chat.decontaminate_tasks
        apart = compared_tasks(r) if apart is None else apart
        for task in apart:
            check_named(task, "chat.decontaminate_tasks")
        apart = [task for task in apart if task not in NEEDS_PAIRS | NEEDS_ABOUT]  # whose texts are made later
        several = sum(isinstance(step, DpoStep) and runs(step) for step in r.posttraining) > 1
        rewards = dict[str, Reward]()
        for step in r.posttraining:
            place = StepContext(
                self._reference(step.parent or parent), self.seed, r.parallel.by(step.processes), r.watch,
                r.data.mixes if r.data else {}, r.window_tokens, several, r.chat, r.model.max_seq_len, tuple(apart),
                r.data is not None and any(task in NEEDS_CORPUS for task in apart), made_of(r), self.references,
                r.evaluation.max_new_tokens, dict(rewards),
            )  # fmt: skip
            made[step.name] = expanded(step, place)
            if isinstance(step, RewardModelStep):
                contrasted = (place.parent, self._reference(step.against)) if step.loss == "contrastive" else (step.name,)
                rewards[step.name] = Reward(contrasted, step.per_token)
            else:
                parent = step.name
        return made

    @cached_property
    def _samples(self) -> dict[str, list[Node]]:
        """The nodes sampled from a model for a later step, by the model's reference."""
        found: dict[str, list[Node]] = {}
        for nodes in self.steps.values():
            for node in filter(_sampled, nodes[:-1]):
                for parent in node.inputs["parent"]:
                    found.setdefault(parent, []).append(node)
        return found

    def _pairs_of(self, label: str) -> str:
        """The node of the pairs on which a model is judged: those on which it or its nearest ancestor was tuned, otherwise
        those sampled from it. Empty if there are none."""
        nodes, waiting = {node.name: node for nodes in self.steps.values() for node in nodes}, [label]
        while waiting:
            model = waiting.pop(0)
            if model in nodes:
                inputs = nodes[model].inputs
                if pairs := inputs.get("pairs"):
                    return pairs[0]
                waiting += [*inputs.get("parent", ()), *inputs.get("parents", ())]  # of a merge: the first one's before others'
        own = [node.name for node in self._samples.get(self._reference(label), []) if node.kind == "preferences"]
        return own[0] if own else ""

    def _finished(self, label: str) -> list[Node]:
        """The nodes after a finished model: what is sampled from it, and its scores. Reward models answer nothing: what they
        are worth on held-out pairs is in their own artifacts."""
        if label in self.recipe.reward_models:
            return []
        pairs, sampled = self._pairs_of(label), self._samples.get(self._reference(label), [])
        if not (tasks := [plan for plan in self.recipe.evaluation.tasks if self._applies(plan, label, bool(pairs))]):
            return list(sampled)
        learnt, others = trained_on(label, self.steps, bool(self.recipe.data), bool(self.recipe.base))
        corpus, judged = (any(plan.task in needing for plan in tasks) for needing in (NEEDS_CORPUS, NEEDS_PAIRS))
        given = {**({"documents": ("documents",)} if corpus else {}), **({"pairs": (pairs,)} if judged else {})}
        config = EvaluateConfig(
            model=label, tasks=tasks, max_new_tokens=self.recipe.evaluation.max_new_tokens,
            window_tokens=self.recipe.window_tokens, sample_families=self._asked if self._chats(label) else [],
            seed=self.seed, parallel=self.recipe.parallel.by(self.recipe.evaluation.processes),
            about=self._about if self._chats(label) else None, not_compared=others,
        )  # fmt: skip
        inputs = {"checkpoint": (self._reference(label),), **given, **learnt}
        return [*sampled, Node(f"{SCORES}{label}", "evaluate", config, inputs)]

    def _chats(self, label: str) -> bool:
        """Whether chat tasks are scored: after each step of post-training, and before the first one for comparison."""
        return label in self.steps or label == self.recipe.base_stage

    def _applies(self, plan: TaskPlan, label: str, pairs: bool) -> bool:
        if plan.task in NEEDS_PAIRS:
            return pairs
        if plan.task in NEEDS_ABOUT:
            return self._about is not None and self._chats(label)
        if plan.stages == "chat":
            return self._chats(label)
        return plan.stages == "all" or label not in self.steps

    @cached_property
    def _about(self) -> About | None:
        """Who the recipe's last step of self-knowledge says that the model is."""
        steps = [step for step in self.recipe.posttraining if isinstance(step, SelfKnowledgeStep) and runs(step)]
        return steps[-1].about if steps else None

    @cached_property
    def _asked(self) -> list[str]:
        """The chat families that the recipe trains, in order."""
        steps = self.recipe.posttraining
        named = [name for step in steps for key in ("examples", "families") for name in getattr(step, key, ())]
        return [family for family in dict.fromkeys(named) if family in FAMILIES]
