"""The generated prompts of a post-training step, and whether they fit the model's context: checked before any training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lehr.config.posttraining import Pairs
from lehr.data.synthetic.conversations import ChatExample, in_turn
from lehr.data.synthetic.splits import Split
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render
from lehr.runtime import seeds
from lehr.runtime.errors import UserError

SPLITS: tuple[Split, ...] = ("train", "held_out")


def pair_prompts(pairs: Pairs, split: Split, seed: int) -> Iterator[ChatExample]:
    """Generated prompts of the preference pairs of one split. Held-out prompts are distinct, as scores are made from them."""
    if not pairs.families:
        return iter(())
    if split == "train":
        return in_turn(pairs.families, split, pairs.prompts, seed)
    return in_turn(pairs.families, split, pairs.held_out_prompts, seed, distinct=True)


def roll_out_prompts(c: Any) -> Iterator[ChatExample]:
    """Generated prompts of all roll-outs of a step, enough for each roll-out to have new ones; `c` is a
    lehr.stages.grpo.GrpoConfig or a lehr.stages.ppo.PpoConfig. None for a step whose prompts are prepared."""
    if not c.families:
        return iter(())
    roll_outs = -(-c.steps // (c.rollout_epochs * c.mini_batches))
    return in_turn(c.families, "train", roll_outs * c.batch_size, c.seed)


def pairs_seed(seed: int, stream: str, split: Split) -> int:
    """The seed for the prompts of one split; each step that samples pairs has a `stream` of its own."""
    return seeds.derive(seed, stream, split)


def prompt_ids(example: ChatExample, tokenizer: Tokenizer) -> list[int]:
    """The token ids of the prompt, up to where the assistant's answer begins."""
    return render(example.prompt, tokenizer, add_generation_prompt=True)[0]


def refuse_long(key: str, prompts: Iterable[Sequence[int]], context: int, max_new_tokens: int) -> None:
    """Raises UserError if a prompt and an answer of `max_new_tokens` do not fit the `context`: generation would cut the front
    of the prompt off, and the model would answer its end only."""
    longest = max(map(len, prompts), default=0)
    room = context - longest
    if max_new_tokens > room:
        raise UserError(
            f"{key}: prompts have up to {longest} tokens, with max_new_tokens={max_new_tokens} more than "
            f"model.max_seq_len={context}",
            remedy=f"lower its max_new_tokens to {room}" if room > 0 else "choose other families, or raise max_seq_len",
        )
