"""The SFT objective on generated conversations, with pretraining text replayed."""

from __future__ import annotations

from collections.abc import Mapping

from lehr.data.loader import Loader
from lehr.data.mix import plan as plan_mix
from lehr.data.shards import ShardSet
from lehr.data.synthetic.conversations import conversation
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render_to_learn
from lehr.post.sft import Rendered, Replay, SftObjective
from lehr.post.tuning import Setup
from lehr.runtime import seeds
from lehr.runtime.errors import UserError
from lehr.runtime.paths import joined


def sft_objective(setup: Setup) -> SftObjective:
    """Cross entropy on the assistant's tokens, and on a few windows of shards in each batch."""
    c, tokenizer, model = setup.config, setup.loaded.tokenizer, setup.loaded.model
    pool = sft_pool(c.examples, c.max_length or model.config.max_seq_len, tokenizer, c.seed)
    return SftObjective(model, pool, c.batch_size, c.seed, tokenizer.pad_id, _replay(setup))


def sft_pool(examples: Mapping[str, int], max_length: int, tokenizer: Tokenizer, seed: int) -> list[Rendered]:
    """`examples` of each family of training conversations, rendered; those longer than `max_length` tokens are left out.
    Raises UserError if none is left."""
    pool = []
    for family, count in examples.items():
        for index in range(count):
            ids, mask = render_to_learn(conversation(family, "train", index, seed).messages, tokenizer)
            if len(ids) <= max_length:
                pool.append(Rendered(ids, mask))
    if not pool:
        raise UserError("no conversation fits max_length", where=f"max_length={max_length}", remedy="raise it")
    return pool


def _replay(setup: Setup) -> Replay | None:
    c, tokenizer = setup.config, setup.loaded.tokenizer
    if c.replay is None:
        return None
    sets = {name: ShardSet.open(joined(setup.folder, name, ".tokens"), tokenizer) for name in c.replay.mix.weights}
    plan = plan_mix(c.replay.mix, sets, c.steps * c.replay.rows, c.replay.sequence_length)
    return Replay(Loader(plan, seeds.derive(c.seed, "replay")), c.replay.rows)
