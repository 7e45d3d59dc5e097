"""How many tokens a step of chat training holds, estimated from generated conversations before a tokenizer exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lehr.config.self_knowledge import About
from lehr.data.synthetic.conversations import Message, conversation
from lehr.data.synthetic.self_knowledge import question

_CHARACTERS_PER_TOKEN = 2.1  # of generated conversations, under a vocabulary of about a thousand tokens
_TOKENS_PER_MESSAGE = 3  # role, line end, end of turn
_SAMPLE = 60  # conversations of a family


def sft_tokens(examples: Mapping[str, int], seed: int) -> float:
    """Mean tokens of a conversation: none is padded."""
    pool = _pool(examples, seed)
    return sum(pool) / len(pool)


def self_knowledge_tokens(about: About, questions: int, replayed: Mapping[str, int], seed: int) -> float:
    """Mean tokens of a row of a step of self-knowledge: two for each question, and the replayed conversations."""
    asked = [question(about, "train", i, seed) for i in range(_SAMPLE)]
    rows = [(Message("user", q.question), Message("assistant", answer)) for q in asked for answer in (q.right, q.wrong)]
    own, more = sum(_tokens(m) for row in rows for m in row) / len(rows), sum(replayed.values())
    each = sft_tokens(replayed, seed) if more else 0.0
    return (2 * questions * own + more * each) / (2 * questions + more)


def answer_tokens(families: Iterable[str], seed: int) -> float:
    """Mean tokens of an answer."""
    answers = _pool(dict.fromkeys(families, 1), seed, answers=True)
    return sum(answers) / len(answers)


def _pool(families: Mapping[str, int], seed: int, *, answers: bool = False) -> list[float]:
    """Sorted lengths in tokens of conversations, or of their last answers, in the families' proportions."""
    most, lengths = max(families.values()), []
    for family, weight in families.items():
        for i in range(max(1, _SAMPLE * weight // most)):
            messages = conversation(family, "train", i, seed).messages
            lengths.append(sum(map(_tokens, messages[-1:] if answers else messages)))
    return sorted(lengths)


def _tokens(message: Message) -> float:
    return len(message.content) / _CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE
