"""The shapes in which people write conversations, preferences and prompts, and what each becomes.

    conversations   messages: [{role, content, tool_calls?, name?}]          tools?: [...]
                    conversations: [{from, value}]  (ShareGPT)               system?: text
                    prompt: text or messages, completion: text or messages
                    prompt, completions: several of them, for a vote (lehr.post.sets.votes)
                    instruction, input?, output, history?  (Alpaca)
    preferences     chosen, rejected: text or messages, prompt: text or messages; or chosen and rejected with the whole dialogue
                    conversations: [...], chosen: {from, value}, rejected: {from, value}  (ShareGPT)
                    prompt, answers: [{text, rating}]
    ratings         prompt, answers: [{text, rating: {aspect: number}}]; or prompt, response, and a column for each aspect
    prompts         prompt: text or messages, verifier: name, arguments: {...}; or the prompt alone, for reward models

Roles are system, user, assistant and tool; ShareGPT's human, gpt, function_call and observation are those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.data.synthetic.conversations import Message
from lehr.runtime.errors import UserError

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Turns, of which at least one is an assistant's; `tools` are descriptions of functions it may call, as JSON values."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Ballot:
    """Several answers to the same turns, each as a conversation."""

    answers: tuple[Conversation, ...]


@dataclass(frozen=True)
class Preference:
    """Two answers to the turns `prompt`, with their ratings where they are known."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    ratings: tuple[float, float] | None = None


@dataclass(frozen=True)
class Rated:
    """Several answers to the turns `prompt`, each with a rating."""

    prompt: tuple[Message, ...]
    answers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Prompt:
    """The turns of a question, and the verifier of its answer, an empty name without one."""

    prompt: tuple[Message, ...]
    verifier: str
    arguments: dict[str, Any] = field(default_factory=dict)


class BadRow(Exception):
    """What is wrong with a row, and what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(what)

    def at(self, where: str) -> UserError:
        return UserError(self.what, where=where, remedy=self.remedy)


_KNOWN = {
    "conversations": "messages, conversations (ShareGPT), prompt and completion, or instruction and output",
    "preferences": "chosen and rejected, or prompt and rated answers",
    "prompts": "prompt, and the verifier of its answers",
    "ratings": "prompt and rated answers, or prompt, response and a column for each aspect",
}


def shape_of(kind: str, values: Values) -> str:
    """The name of a row's shape among those of a source's kind. Raises BadRow if it has none."""
    have = {key for key, value in values.items() if value is not None}
    for name, needed in _SHAPES[kind].items():
        if set(needed) <= have:
            return name
    known, keys = _KNOWN[kind], ", ".join(sorted(have)[:8]) or "nothing"
    raise BadRow(f"no shape of {kind} is known with the keys {keys}", f"give each row {known}")


_SHAPES: dict[str, dict[str, tuple[str, ...]]] = {
    "conversations": {
        "messages": ("messages",), "ShareGPT": ("conversations",), "prompt and completion": ("prompt", "completion"),
        "prompt and completions": ("prompt", "completions"), "Alpaca": ("instruction", "output"),
    },
    "preferences": {
        "ShareGPT pairs": ("conversations", "chosen", "rejected"), "pairs": ("chosen", "rejected"),
        "message pairs": ("chosen_messages", "rejected_messages"), "rated answers": ("prompt", "answers"),
    },
    "prompts": {"verified prompts": ("prompt", "verifier"), "prompts": ("prompt",)},
    "ratings": {"rated answers": ("prompt", "answers"), "rated responses": ("prompt", "response")},
}  # fmt: skip
