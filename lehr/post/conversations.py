"""The SFT objective on prepared conversations, with pretraining text replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lehr.data.loader import Loader
from lehr.data.mix import plan as plan_mix
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.post.batches import Batches, OfExamples, OfTokens
from lehr.post.sets.pool import Pool
from lehr.post.sft import Replay, SftObjective
from lehr.post.tuning import Setup
from lehr.runtime import seeds
from lehr.runtime.errors import UserError

ROWS, SHARDS = "rows", "shards"  # roles of the step's data


def sft_objective(setup: Setup) -> SftObjective:
    """Cross entropy on the assistant's tokens, and on a few windows of shards in each batch. Raises UserError if the parent has
    another tokenizer than the conversations."""
    c = setup.config
    rows, ours = Tokenizer.load(setup.folder(ROWS)), setup.loaded.tokenizer
    if rows.chat_template != ours.chat_template or not ours.reads(rows.hash):
        what = "its conversations were rendered with another tokenizer or chat template than its parent has"
        remedy = "name the parent's template in chat.template, or leave that out for the parent's own"
        raise UserError(what, where=setup.context.name, remedy=remedy)
    pool = Pool(setup.folder(ROWS))
    return SftObjective(setup.loaded.model, pool, batches(c, pool), _replay(setup), c.loss)


def batches(c: Any, pool: Pool) -> Batches:
    """The batches of a step; `c` is a lehr.stages.sft.SftConfig."""
    if c.batch_tokens:
        return OfTokens(c.batch_tokens, pool.lengths, c.seed)
    return OfExamples(c.batch_size, len(pool), c.seed)


def sft_steps(c: Any, rows: Path) -> int:
    """The optimiser steps of a step: as given, or of so many epochs of the conversations in the folder `rows`."""
    if c.steps:
        return int(c.steps)
    pool = Pool(rows)
    return batches(c, pool).steps(c.epochs)


def _replay(setup: Setup) -> Replay | None:
    c, tokenizer = setup.config, setup.loaded.tokenizer
    if c.replay is None:
        return None
    folder = setup.folder(SHARDS)
    sets = {name: ShardSet.open(folder, name, tokenizer) for name in c.replay.mix.sources}
    plan = plan_mix(c.replay.mix, sets, c.steps * c.replay.rows, c.replay.sequence_length)
    return Replay(Loader(plan, seeds.derive(c.seed, "replay")), c.replay.rows)
