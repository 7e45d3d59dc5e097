"""A phase of next-token training whose state is sharded over the ranks; it ends in an ordinary checkpoint."""

from __future__ import annotations

import torch

from lehr.artifacts.artifact import Artifact
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.export import consolidate
from lehr.distributed.sharding.init import Sharded, inherit, init_sharded
from lehr.distributed.sharding.saves import ShardedSaves
from lehr.runtime.ports import RESUME
from lehr.train.checkpointing.checkpoint import TOKENIZER, check_tokenizer, describe_checkpoint
from lehr.train.fit import Evaluator, fit, logger, retention
from lehr.train.phase import PretrainSpec


def train_sharded(ranks: Ranks, work: PretrainSpec) -> int:
    """Train `work` under its sharded layout, from initial values, its parent or its newest save of any layout. Rank 0 then
    consolidates a last save into the checkpoint, one parameter at a time. Returns the tokens seen."""
    sharded = _begin(ranks, work)
    state = sharded.state
    inner = work.objective(state, sharded.loss)
    context = work.context
    layout, kept = context.parallel.described, retention(context.watch)
    saves = ShardedSaves(context.scratch / RESUME, ranks, layout, context.fencing, logger(context, ranks), kept)
    evaluator = work.compile_blocks_if_pays(state.model, ranks.world, _evaluator(work, sharded))
    fit(work.context, ranks, state, sharded.objective(inner), work.plan, evaluator, saves)
    manifest = saves.write(work.context.scratch / "final", state)
    if ranks.first and manifest is not None:
        (work.context.out / "mix.txt").write_text(work.mix() + "\n", encoding="utf-8")
        describe_checkpoint(work.context.out, work.model, work.tokenizer, chat=False, training=work.training(state))
        consolidate(manifest, work.model, work.phase.optim, work.context.out)
    return state.tokens


def _begin(ranks: Ranks, work: PretrainSpec) -> Sharded:
    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    parallel, optim = work.context.parallel, work.phase.optim
    if work.parent is None:
        return init_sharded(ranks, parallel, work.model, optim, dtype, work.init_seed)
    parent = Artifact.open(work.parent, verify=False)
    check_tokenizer(Tokenizer.load(work.tokenizer).hash, Tokenizer.load(parent.folder).hash, parent.path(TOKENIZER))
    return inherit(ranks, parallel, work.model, optim, dtype, parent.folder)


def _evaluator(work: PretrainSpec, sharded: Sharded) -> Evaluator | None:
    """The evaluator. On a mesh each batch takes all ranks, so every rank must evaluate the same batches: none are split."""
    inner = work.evaluator()
    if inner is None or sharded.place is None:
        return inner
    return lambda state, _ranks: inner(state, Ranks())
