"""Stage 1, the ramp and the anneals: one function, three beginnings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lehr import seeds
from lehr.artifact import Artifact, ArtifactRef
from lehr.config.data import Mix
from lehr.config.recipe import Model, Precision, Recipe
from lehr.config.schedule import BatchRamp, ConstantSchedule, Schedule
from lehr.config.stages import Optim
from lehr.data.loader import Loader
from lehr.data.mix import plan as plan_mix
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.errors import Bug, UserError
from lehr.model.moe import Routing
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.optim.schedule import anneal_schedule, by_tokens
from lehr.stage import Job, Outcome, Surroundings, run_stage
from lehr.stages.common import Desk, conduct
from lehr.stages.in_loop import ProseEvaluator
from lehr.tensors import read_tensors
from lehr.train.batches import Batches
from lehr.train.checkpoint import OPTIMIZER, TRAINING, check_tokenizer, load_checkpoint, save_checkpoint
from lehr.train.loop import Plan, Sums
from lehr.train.losses import cross_entropy, router_loss
from lehr.train.parallel import Ranks, run_ranks
from lehr.train.state import TrainState


@dataclass(frozen=True)
class Stretch:
    """One stretch of next-token training: what to read, how long, at which rate."""

    mix: Mix
    tokens: int
    batch_size: int
    sequence_length: int
    optim: Optim
    schedule: Schedule
    checkpoint_steps: int
    data_seed: int
    batch_ramp: BatchRamp | None = None
    document_mask: bool = False

    @cached_property
    def batches(self) -> Batches:
        return Batches.of(self.tokens, self.batch_size, self.sequence_length, self.batch_ramp)

    @property
    def steps(self) -> int:
        return self.batches.total

    def rate(self, step: int, tokens: int) -> float:
        """Learning rate after `step` steps; counted in tokens, which skipped updates have seen too."""
        return by_tokens(self.schedule, self.optim.lr, tokens, self.batches.all_instances * self.sequence_length)

    def clip_norm(self, step: int, tokens: int) -> float:
        """The gradient norm's limit after `tokens`."""
        warming = tokens < self.optim.clip_warmup_tokens
        return self.optim.clip_norm * (self.optim.clip_warmup_factor if warming else 1.0)

    def describe(self) -> dict[str, Any]:
        """For fingerprint and lineage: what the result depends on, so not how often it is saved or looked at."""
        return {
            "mix": self.mix.model_dump(),
            "tokens": self.tokens,
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "optim": self.optim.model_dump(),
            "schedule": self.schedule.model_dump(),
            "data_seed": self.data_seed,
            "document_mask": self.document_mask,
            "batch_ramp": self.batch_ramp.model_dump() if self.batch_ramp else None,
        }


class NextToken:
    """Cross entropy plus z-loss, and the routers' losses, over the mix's windows; `weight` counts labelled tokens."""

    def __init__(
        self, model: Transformer, loader: Loader, batches: Batches, z_weight: float, end_of_text: int | None = None
    ) -> None:
        """`end_of_text` is given where documents must not see each other: the token that each of them ends with."""
        self.model, self.loader, self.batches, self.z_weight = model, loader, batches, z_weight
        self.end_of_text = end_of_text
        self.extras: tuple[str, ...] = ("cross_entropy", *(("least_load",) if model.config.n_experts else ()))

    def backward(self, step: int, ranks: Ranks) -> Sums:
        batch = self.loader.rows(*self.batches.at(step), ranks.rank, ranks.world)
        tokens_BT, labels_BT = torch.from_numpy(batch.tokens_BT), torch.from_numpy(batch.labels_BT)
        begins_BT = None
        if self.end_of_text is not None:
            ends_BT = tokens_BT == self.end_of_text
            begins_BT = torch.cat([torch.ones_like(ends_BT[:, :1]), ends_BT[:, :-1]], dim=1)
        ce = cross_entropy(self.model, tokens_BT, labels_BT, with_z=self.z_weight > 0, begins_BT=begins_BT)
        total = ce.nats + self.z_weight * ce.z + router_loss(ce, self.model.config)
        total.backward()  # type: ignore[no-untyped-call]
        extra = {"cross_entropy": (float(ce.nats.detach()), float(ce.tokens))}
        if ce.routing:
            extra["least_load"] = (least_load(ce.routing), 1.0)
        return Sums(float(total.detach()), ce.tokens, tokens_BT.numel(), extra)


def least_load(routing: list[Routing]) -> float:
    """The smallest share of any layer's expert, relative to an even one: 1 is balanced, 0 an idle expert."""
    return min(float(r.load_X.min()) * len(r.load_X) / float(r.load_X.sum()) for r in routing)


@dataclass(frozen=True)
class _Work:
    desk: Desk
    stretch: Stretch
    model: Model
    seed: int
    shards: Path
    documents: Path
    tokenizer: Path
    parent: Path | None
    in_loop_steps: int
    precision: Precision


def _train_on_rank(ranks: Ranks, work: _Work) -> int:
    stretch = work.stretch
    state = _begin(work)
    loader = make_loader(work.shards, work.tokenizer, stretch)
    end_of_text = Tokenizer.load(work.tokenizer).eos_id if stretch.document_mask else None
    objective = NextToken(state.model, loader, stretch.batches, stretch.optim.z_loss, end_of_text)
    plan = Plan(stretch.steps, stretch.rate, stretch.clip_norm, stretch.checkpoint_steps, work.in_loop_steps)
    evaluator = (
        ProseEvaluator(work.documents, work.tokenizer, work.seed, stretch.sequence_length) if work.in_loop_steps else None
    )
    conduct(work.desk, ranks, state, objective, plan, evaluator)
    if ranks.first:
        (work.desk.out / "mix.txt").write_text(loader.plan.tree() + "\n", encoding="utf-8")
        end = stretch.rate(state.step, state.tokens)
        training = {
            "lr": end,
            "tokens": state.tokens,
            "steps": state.step,
            "batch_size": stretch.batch_size,
            "sequence_length": stretch.sequence_length,
            "document_mask": stretch.document_mask,
            "optim": stretch.optim.model_dump(),
        }
        save_checkpoint(
            work.desk.out,
            work.model,
            state.weights(),
            work.tokenizer,
            chat=False,
            training=training,
            optimizer=state.optimizer_tensors(),
        )
    return state.tokens


def _begin(work: _Work) -> TrainState:
    if work.parent is None:
        model = Transformer(work.model).initialise(seeds.derive(work.seed, "init"))
        return TrainState.fresh(model, work.stretch.optim, work.precision)
    parent = Artifact.open(work.parent, verify=False)
    loaded = load_checkpoint(parent)
    check_tokenizer(Tokenizer.load(work.tokenizer).hash, loaded.tokenizer.hash, parent.folder)
    state = TrainState.fresh(loaded.model, work.stretch.optim, work.precision)
    state.load_optimizer(read_tensors(parent.path(OPTIMIZER)), str(parent.folder))
    return state


def make_loader(shards: Path, tokenizer: Path, stretch: Stretch) -> Loader:
    """The stretch's batches, as a pure function of step and rank."""
    hash_ = Tokenizer.load(tokenizer).hash
    sets = {name: ShardSet.open(shards / f"{name}.tokens", hash_) for name in stretch.mix.weights}
    plan = plan_mix(stretch.mix, sets, stretch.batches.all_instances, stretch.sequence_length)
    return Loader(plan, stretch.data_seed)


def run_stretch(
    stage: str,
    recipe: Recipe,
    stretch: Stretch,
    shards: Artifact,
    documents: Artifact,
    tokenizer: Artifact,
    parent: Artifact | None,
    around: Surroundings,
) -> ArtifactRef:
    """Train `stretch`, from scratch or from `parent`'s weights and optimiser state."""
    model = recipe.model
    flops = flops_per_token(model, stretch.sequence_length)

    def work(job: Job) -> Outcome:
        desk = Desk.of(job, recipe.parallel)
        in_loop = recipe.evaluation.in_loop_steps
        folder = parent.folder if parent else None
        args = _Work(
            desk, stretch, model, recipe.seed, shards.folder, documents.folder, tokenizer.folder, folder, in_loop,
            recipe.precision,
        )
        tokens = run_ranks(recipe.parallel.processes, recipe.parallel.threads, _train_on_rank, args)
        return Outcome("checkpoint", {"tokens": tokens}, tokens, flops * tokens, recipe.parallel.processes)

    config = {
        **stretch.describe(),
        "model": model.model_dump(),
        "parallel": recipe.parallel.model_dump(),
        "precision": recipe.precision,
    }
    if parent is None:
        config["seed"] = recipe.seed
    parents = [shards, documents, tokenizer, *([parent] if parent else [])]
    return run_stage(stage, work, module=__name__, config=config, parents=parents, around=around, total_steps=stretch.steps)


def stage1(recipe: Recipe, shards: Artifact, documents: Artifact, tokenizer: Artifact, around: Surroundings) -> ArtifactRef:
    """Pretraining from scratch: warm-up, then a cosine cut short."""
    s = recipe.stage1
    stretch = Stretch(
        recipe.data.mixes[s.mix], s.tokens, s.batch_size, s.sequence_length, s.optim, s.schedule, s.checkpoint_steps,
        seeds.derive(recipe.seed, "data", "stage1"), s.batch_ramp, s.document_mask,
    )  # fmt: skip
    return run_stretch("stage1", recipe, stretch, shards, documents, tokenizer, None, around)


def _inherit(
    parent: Artifact, recipe: Recipe, mix: str, tokens: int, checkpoint_steps: int, schedule: Schedule, data_seed: int
) -> Stretch:
    """A stretch that begins at the learning rate its parent ended with, read from the parent, not from the recipe."""
    training = load_training(parent)
    optim = Optim.model_validate({**training["optim"], "lr": training["lr"]})
    return Stretch(
        recipe.data.mixes[mix],
        tokens,
        training["batch_size"],
        training["sequence_length"],
        optim,
        schedule,
        checkpoint_steps,
        data_seed,
        document_mask=training["document_mask"],
    )


def load_training(parent: Artifact) -> dict[str, Any]:
    """The parent's `train.json`. Raises UserError where there is none, or where its learning rate is already zero."""
    path = parent.expect("checkpoint").path(TRAINING)
    if not path.is_file():
        raise UserError(
            "this checkpoint says nothing of its training (a soup or chat model?)",
            where=parent.folder,
            remedy="give a pretrained one",
        )
    training: dict[str, Any] = json.loads(path.read_text())
    if not training["lr"] > 0:
        raise UserError("its learning rate ended at zero", where=parent.folder, remedy="give a parent that is not annealed")
    return training


def ramp(
    recipe: Recipe, parent: Artifact, shards: Artifact, documents: Artifact, tokenizer: Artifact, around: Surroundings
) -> ArtifactRef:
    """The parent's rate, constant, on the better mix: the skill forms before the anneals branch. Without a ramp in the
    recipe, the parent itself."""
    r = recipe.ramp
    if r is None:
        return parent.ref
    seed = seeds.derive(recipe.seed, "data", "ramp")
    stretch = _inherit(parent, recipe, r.mix, r.tokens, r.checkpoint_steps, ConstantSchedule(kind="constant"), seed)
    return run_stretch("ramp", recipe, stretch, shards, documents, tokenizer, parent, around)


def anneal(
    recipe: Recipe,
    index: int,
    parent: Artifact,
    shards: Artifact,
    documents: Artifact,
    tokenizer: Artifact,
    around: Surroundings,
) -> ArtifactRef:
    """Run `index` of the recipe's anneals: from the parent's rate to zero. Its seed chooses the data order and nothing else."""
    a = recipe.anneals
    if a is None:
        raise Bug("a recipe without anneals was asked for one")
    run, name = a.runs[index], a.names[index]
    data_seed = seeds.derive(recipe.seed, "data", "anneal", run.seed)
    schedule = anneal_schedule(a.decay, run.tokens)
    stretch = _inherit(parent, recipe, run.mix, run.tokens, a.checkpoint_steps, schedule, data_seed)
    return run_stretch(name, recipe, stretch, shards, documents, tokenizer, parent, around)
