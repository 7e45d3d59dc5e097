"""Stage 1, the ramp and the anneals: one function, three beginnings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lehr import seeds
from lehr.artifact import Artifact, ArtifactRef
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.recipe import Recipe
from lehr.config.schedule import ConstantSchedule, Schedule
from lehr.config.training import Compile, Precision
from lehr.data.tokenizer import Tokenizer
from lehr.errors import Bug, UserError
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.optim.schedule import anneal_schedule
from lehr.stage import Job, Outcome, Surroundings, run_stage
from lehr.stages.common import Desk, Evaluator, conduct
from lehr.stages.in_loop import ProseEvaluator
from lehr.tensors import read_tensors
from lehr.train.checkpoint import OPTIMIZER, TRAINING, check_tokenizer, load_checkpoint, save_checkpoint
from lehr.train.compiled import compile_blocks, pays, uncompiled
from lehr.train.device import own_device
from lehr.train.loop import Plan
from lehr.train.losses import CrossEntropy, cross_entropy
from lehr.train.next_token import NextToken, Stretch, make_loader
from lehr.train.parallel import Ranks, run_ranks
from lehr.train.recompute import recompute_blocks
from lehr.train.state import TrainState


@dataclass(frozen=True)
class Work:
    """What every rank of a stretch is told."""

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
    compile: Compile = "off"

    @property
    def plan(self) -> Plan:
        s = self.stretch
        return Plan(s.steps, s.rate, s.clip_norm, s.checkpoint_steps, self.in_loop_steps)

    def objective(self, state: TrainState, loss: Callable[..., CrossEntropy] = cross_entropy) -> NextToken:
        """Next-token training on the stretch's mix."""
        loader = make_loader(self.shards, self.tokenizer, self.stretch)
        eos = Tokenizer.load(self.tokenizer).eos_id
        return NextToken(state, loader, self.stretch, self.desk.parallel.micro_batch, eos, loss)

    def mix(self) -> str:
        """How the mix was resolved, as a tree."""
        return make_loader(self.shards, self.tokenizer, self.stretch).plan.tree()

    def evaluator(self) -> ProseEvaluator | None:
        """What is measured on the way, if anything."""
        if not self.in_loop_steps:
            return None
        return ProseEvaluator(self.documents, self.tokenizer, self.seed, self.stretch.sequence_length)

    def compiled(self, model: Transformer, ranks: int, evaluator: Evaluator | None) -> Evaluator | None:
        """Compile the blocks if that pays (see lehr.train.compiled); `evaluator`, which then runs them as they are written."""
        flops = flops_per_token(self.model, self.stretch.sequence_length) * self.stretch.tokens
        if not self.desk.parallel.compiles or not pays(self.compile, model, flops, ranks):
            return evaluator
        compile_blocks(model)
        return uncompiled(evaluator) if evaluator else None

    def training(self, state: TrainState) -> dict[str, Any]:
        """What a child stage must know of this one: `train.json`."""
        return {
            "lr": self.stretch.rate(state.step, state.tokens),
            "tokens": state.tokens,
            "steps": state.step,
            "batch_size": self.stretch.batch_size,
            "sequence_length": self.stretch.sequence_length,
            "document_mask": self.stretch.document_mask,
            "mask_repeats": self.stretch.mask_repeats,
            "optim": self.stretch.optim.model_dump(),
        }


def train_on_rank(ranks: Ranks, work: Work) -> int:
    """Train `work` to its end and leave the checkpoint in its desk's `out`; returns the tokens seen. Every rank calls it."""
    if not work.desk.parallel.whole:
        from lehr.stages.sharded import train_sharded  # torch's sharding modules take a second to load

        return train_sharded(ranks, work)
    state = _begin(work, own_device(ranks))
    recompute_blocks(state.model, work.desk.parallel.recompute)
    objective = work.objective(state)
    evaluator = work.compiled(state.model, ranks.world, work.evaluator())
    conduct(work.desk, ranks, state, objective, work.plan, evaluator)
    if ranks.first:
        (work.desk.out / "mix.txt").write_text(work.mix() + "\n", encoding="utf-8")
        save_checkpoint(
            work.desk.out,
            work.model,
            state.weights(),
            work.tokenizer,
            chat=False,
            training=work.training(state),
            optimizer=state.whole.inherited(),
        )
    return state.tokens


def _begin(work: Work, device: torch.device) -> TrainState:
    if work.parent is None:
        model = Transformer(work.model).initialise(seeds.derive(work.seed, "init"))
        return TrainState.fresh(model.to(device), work.stretch.optim, work.precision)
    parent = Artifact.open(work.parent, verify=False)
    loaded = load_checkpoint(parent)
    check_tokenizer(Tokenizer.load(work.tokenizer).hash, loaded.tokenizer.hash, parent.folder)
    state = TrainState.fresh(loaded.model.to(device), work.stretch.optim, work.precision)
    state.whole.inherit(read_tensors(parent.path(OPTIMIZER)), str(parent.folder))
    return state


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
        desk = Desk.of(job, recipe.parallel, recipe.watch)
        in_loop = recipe.evaluation.in_loop_steps
        folder = parent.folder if parent else None
        args = Work(
            desk, stretch, model, recipe.seed, shards.folder, documents.folder, tokenizer.folder, folder, in_loop,
            recipe.precision, recipe.compile,
        )
        tokens = run_ranks(recipe.parallel.processes, recipe.parallel.threads, train_on_rank, args)
        return Outcome("checkpoint", {"tokens": tokens}, tokens, flops * tokens, recipe.parallel.processes)

    config = {
        **stretch.describe(),
        "model": model.model_dump(),
        "precision": recipe.precision,
    }
    if parent is None:
        config["seed"] = recipe.seed
    parents = [shards, documents, tokenizer, *([parent] if parent else [])]
    layout = {"parallel": recipe.parallel.model_dump(), "compile": recipe.compile}
    return run_stage(
        stage, work, module=__name__, config=config, parents=parents, around=around, total_steps=stretch.steps, layout=layout
    )


def stage1(recipe: Recipe, shards: Artifact, documents: Artifact, tokenizer: Artifact, around: Surroundings) -> ArtifactRef:
    """Pretraining from scratch: warm-up, then a cosine cut short."""
    s = recipe.stage1
    stretch = Stretch(
        recipe.data.mixes[s.mix], s.tokens, s.batch_size, s.sequence_length, s.optim, s.schedule, s.checkpoint_steps,
        seeds.derive(recipe.seed, "data", "stage1"), s.batch_ramp, s.document_mask, s.mask_repeats,
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
        mask_repeats=training["mask_repeats"],
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
