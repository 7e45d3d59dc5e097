"""Next-token training on one rank: from scratch, or from a parent's weights and optimiser state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lehr.artifact import Artifact
from lehr.config.model import Model
from lehr.config.training import Compile, Precision
from lehr.data.tokenizer import Tokenizer
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome
from lehr.stages.common import PretrainingConfig
from lehr.tensors import read_tensors
from lehr.train.checkpoint import OPTIMIZER, check_tokenizer, load_checkpoint, save_checkpoint
from lehr.train.compiled import compile_blocks, pays, uncompiled
from lehr.train.device import own_device
from lehr.train.fit import Evaluator, RankContext, fit
from lehr.train.in_loop import ProseEvaluator
from lehr.train.loop import Plan
from lehr.train.losses import CrossEntropy, cross_entropy
from lehr.train.next_token import NextToken, Stretch, make_loader
from lehr.train.parallel import Ranks, run_ranks
from lehr.train.recompute import recompute_blocks
from lehr.train.state import TrainState


@dataclass(frozen=True)
class PretrainWork:
    """What every rank of a stretch is told. `parent` is None for training from scratch, which `init_seed` then decides."""

    context: RankContext
    stretch: Stretch
    model: Model
    init_seed: int
    evaluation_seed: int
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
        return NextToken(state, loader, self.stretch, self.context.parallel.micro_batch, eos, loss)

    def mix(self) -> str:
        """How the mix was resolved, as a tree."""
        return make_loader(self.shards, self.tokenizer, self.stretch).plan.tree()

    def evaluator(self) -> ProseEvaluator | None:
        """What is measured on the way, if anything."""
        if not self.in_loop_steps:
            return None
        return ProseEvaluator(self.documents, self.tokenizer, self.evaluation_seed, self.stretch.sequence_length)

    def compiled(self, model: Transformer, ranks: int, evaluator: Evaluator | None) -> Evaluator | None:
        """Compile the blocks if that pays (see lehr.train.compiled); `evaluator`, which then runs them as they are written."""
        flops = flops_per_token(self.model, self.stretch.sequence_length) * self.stretch.tokens
        if not self.context.parallel.compiles or not pays(self.compile, model, flops, ranks):
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


def train_on_rank(ranks: Ranks, work: PretrainWork) -> int:
    """Train `work` to its end and leave the checkpoint in its context's `out`; returns the tokens seen. Every rank calls it."""
    if not work.context.parallel.whole:
        from lehr.train.sharded.pretraining import train_sharded  # torch's sharding modules take a second to load

        return train_sharded(ranks, work)
    state = _begin(work, own_device(ranks))
    recompute_blocks(state.model, work.context.parallel.recompute)
    objective = work.objective(state)
    evaluator = work.compiled(state.model, ranks.world, work.evaluator())
    fit(work.context, ranks, state, objective, work.plan, evaluator)
    if ranks.first:
        (work.context.out / "mix.txt").write_text(work.mix() + "\n", encoding="utf-8")
        save_checkpoint(
            work.context.out,
            work.model,
            state.weights(),
            work.tokenizer,
            chat=False,
            training=work.training(state),
            optimizer=state.whole.inherited(),
        )
    return state.tokens


def _begin(work: PretrainWork, device: torch.device) -> TrainState:
    if work.parent is None:
        model = Transformer(work.model).initialise(work.init_seed)
        return TrainState.fresh(model.to(device), work.stretch.optim, work.precision)
    parent = Artifact.open(work.parent, verify=False)
    loaded = load_checkpoint(parent)
    check_tokenizer(Tokenizer.load(work.tokenizer).hash, loaded.tokenizer.hash, parent.folder)
    state = TrainState.fresh(loaded.model.to(device), work.stretch.optim, work.precision)
    state.whole.inherit(read_tensors(parent.path(OPTIMIZER)), str(parent.folder))
    return state


def pretrain(
    config: PretrainingConfig, stretch: Stretch, model: Model, init_seed: int, inputs: Inputs, attempt: Attempt
) -> Outcome:
    """Train `stretch` on the configuration's ranks, from the input `parent` if there is one."""
    context, parent = RankContext.of(attempt, config.parallel, config.watch), inputs.get("parent")
    work = PretrainWork(
        context, stretch, model, init_seed, config.evaluation_seed, inputs["shards"].folder, inputs["documents"].folder,
        inputs["tokenizer"].folder, parent.folder if parent else None, config.in_loop_steps, config.precision, config.compile,
    )  # fmt: skip
    tokens = run_ranks(config.parallel.processes, config.parallel.threads, train_on_rank, work)
    flops = flops_per_token(model, stretch.sequence_length) * tokens
    return Outcome({"tokens": tokens}, tokens, flops, config.parallel.processes)
