"""How many tokens a step of chat training holds, estimated from generated conversations before a tokenizer exists."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.config.recipe import Recipe
from lehr.data.synthetic.conversations import Message, conversation
from lehr.errors import Bug

_CHARACTERS_PER_TOKEN = 2.1  # of generated conversations, under a vocabulary of about a thousand tokens
_TOKENS_PER_MESSAGE = 3  # role, line end, end of turn
_SAMPLE = 60  # conversations of a family


def tokens_per_step(recipe: Recipe, stage: str) -> int:
    """Tokens of one step of `sft`, `dpo` or `rlvr` as the stage counts them: padded rows, for DPO the answers alone."""
    world = recipe.parallel.processes
    if stage == "sft" and recipe.sft:
        pool = _pool(recipe.sft.examples, recipe.seed)
        rows = recipe.sft.batch_size // world
        halves = _padded(pool, rows) if rows < 8 else rows // 2 * (_quantile(pool, 0.5) + _quantile(pool, rows / (rows + 1)))
        return round(world * halves) + recipe.sft.replay_rows * recipe.stage1.sequence_length
    if stage == "dpo" and recipe.dpo:
        answers = _pool(dict.fromkeys(recipe.dpo.families, 1), recipe.seed, answers=True)
        return round(2 * recipe.dpo.batch_size * sum(answers) / len(answers))
    if stage == "rlvr" and recipe.rlvr:
        pool = _pool(dict.fromkeys(recipe.rlvr.families, 1), recipe.seed)
        return round(world * _padded(pool, recipe.rlvr.batch_size * recipe.rlvr.samples // world))
    raise Bug(f"no stage {stage!r} in this recipe")


def _pool(families: dict[str, int], seed: int, *, answers: bool = False) -> list[float]:
    """Sorted lengths in tokens of conversations, or of their last answers, in the families' proportions."""
    most, lengths = max(families.values()), []
    for family, weight in families.items():
        for i in range(max(1, _SAMPLE * weight // most)):
            messages = conversation(family, "train", i, seed).messages
            lengths.append(sum(map(_tokens, messages[-1:] if answers else messages)))
    return sorted(lengths)


def _tokens(message: Message) -> float:
    return len(message.content) / _CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE


def _padded(lengths: Sequence[float], rows: int) -> float:
    """Tokens of `rows` drawn from `lengths` (sorted) and padded to the longest, whose expected place is rows / (rows + 1)."""
    return rows * _quantile(lengths, rows / (rows + 1))


def _quantile(lengths: Sequence[float], share: float) -> float:
    return lengths[min(int(share * len(lengths)), len(lengths) - 1)]
