"""Next-token training on one rank: from scratch, or from a parent's weights and optimiser state."""

from __future__ import annotations

import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.tensors import read_tensors
from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.ranked import PretrainingConfig
from lehr.pipeline.spec import Inputs, Outcome
from lehr.train.activation_checkpointing import checkpoint_activations
from lehr.train.checkpointing.checkpoint import OPTIMIZER, check_tokenizer, load_checkpoint, save_checkpoint
from lehr.train.fit import RankContext, fit
from lehr.train.next_token import TrainingPhase
from lehr.train.phase import PretrainSpec
from lehr.train.state import TrainState


def train_on_rank(ranks: Ranks, work: PretrainSpec) -> int:
    """Train `work` to its end, write the checkpoint into its context's `out`, return the tokens seen. Every rank calls it."""
    if not work.context.parallel.whole:
        from lehr.distributed.sharding.pretraining import train_sharded  # torch's sharding modules take a second to load

        return train_sharded(ranks, work)
    state = _begin(work, own_device(ranks))
    checkpoint_activations(state.model, work.context.parallel.activation_checkpointing)
    objective = work.objective(state)
    evaluator = work.compile_blocks_if_pays(state.model, ranks.world, work.evaluator())
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


def _begin(work: PretrainSpec, device: torch.device) -> TrainState:
    if work.parent is None:
        model = Transformer(work.model).initialise(work.init_seed)
        return TrainState.fresh(model.to(device), work.phase.optim, work.precision)
    # Not verified again: hashing the weights on every rank would delay the start of all of them.
    parent = Artifact.open(work.parent, verify=False)
    loaded = load_checkpoint(parent)
    check_tokenizer(Tokenizer.load(work.tokenizer).hash, loaded.tokenizer.hash, parent.folder)
    state = TrainState.fresh(loaded.model.to(device), work.phase.optim, work.precision)
    state.whole.inherit(read_tensors(parent.path(OPTIMIZER)), str(parent.folder))
    return state


def pretrain(
    config: PretrainingConfig, phase: TrainingPhase, model: Model, init_seed: int, inputs: Inputs, attempt: Attempt
) -> Outcome:
    """Train `phase` on the configuration's ranks, from the input `parent` if there is one."""
    context, parent = RankContext.of(attempt, config.parallel, config.watch), inputs.get("parent")
    work = PretrainSpec(
        context, phase, model, init_seed, config.evaluation_seed, inputs["shards"].folder, inputs["documents"].folder,
        inputs["tokenizer"].folder, parent.folder if parent else None, config.in_loop_steps, config.precision, config.compile,
    )  # fmt: skip
    tokens = run_ranks(config.parallel.processes, config.parallel.threads, train_on_rank, work)
    flops = flops_per_token(model, phase.sequence_length) * tokens
    return Outcome({"tokens": tokens}, tokens, flops, config.parallel.processes)
