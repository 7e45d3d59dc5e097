"""Answers as they come in: text, tokens and log-probabilities of each choice, in the forms of OpenAI's two endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lehr.data.tokenizer import Tokenizer
from lehr.model.online import Picked
from lehr.serving.engine import End, Ticket
from lehr.serving.text import TextStream


@dataclass
class Choice:
    """One answer. `fresh` text and `unsent` tokens are those that came since `take` was called last."""

    ticket: Ticket
    stream: TextStream
    prompt: int  # which of the request's
    fresh: str = ""
    unsent: list[Picked] = field(default_factory=list)
    tokens: int = 0
    sent: int = 0  # characters of it that were taken
    finish: str = ""

    def hear(self, event: Picked | End) -> None:
        """Take in a token or the end. Raises the error that the answer ended in."""
        if self.finish:
            return  # what was decoded after a stop string
        if isinstance(event, Picked):
            self.tokens += 1
            self.unsent.append(event)
            self.fresh += "" if event.token in self.ticket.stops else self.stream.add(event.token)
            if self.stream.stopped:
                self.finish, self.ticket.stopped = "stop", True
                self.ticket.cancelled = True
            return
        if event.error is not None:
            raise event.error
        self.fresh += self.stream.end()
        self.finish = "stop" if self.stream.stopped else event.reason

    def take(self) -> tuple[str, list[Picked]]:
        """The text and the tokens that were not taken before."""
        found = self.fresh, self.unsent
        self.fresh, self.unsent = "", []
        self.sent += len(found[0])
        return found


def completion_logprobs(picked: Sequence[Picked | int], top: int, tokenizer: Tokenizer, offset: int) -> dict[str, Any]:
    """`logprobs` of a completion: parallel lists. A token without a log-probability (the first of a prompt) stands as its id.
    `offset`: characters before the first of them."""
    out: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [] if top else None, "text_offset": []}
    for one in picked:
        token = one if isinstance(one, int) else one.token
        text = tokenizer.decode([token], skip_special=False)
        out["tokens"].append(text)
        out["token_logprobs"].append(None if isinstance(one, int) else one.logprob)
        out["text_offset"].append(offset)
        offset += len(tokenizer.decode([token]))
        if top:
            out["top_logprobs"].append(None if isinstance(one, int) else _by_text(one, tokenizer))
    return out


def _by_text(picked: Picked, tokenizer: Tokenizer) -> dict[str, float]:
    """Log-probabilities by text, as OpenAI has them: of several tokens with one text (parts of characters) the likeliest's."""
    known: dict[str, float] = {}
    for token, logprob in (*picked.top, (picked.token, picked.logprob)):
        known.setdefault(tokenizer.decode([token], skip_special=False), logprob)
    return known


def chat_logprobs(picked: Sequence[Picked], tokenizer: Tokenizer) -> dict[str, Any]:
    """`logprobs` of a chat's answer."""
    return {
        "content": [
            {**_entry(one.token, one.logprob, tokenizer), "top_logprobs": [_entry(t, p, tokenizer) for t, p in one.top]}
            for one in picked
        ],
        "refusal": None,
    }


def _entry(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    text = tokenizer.decode([token], skip_special=False)
    # A part of a character has no text of its own, and its bytes are not known here.
    return {"token": text, "logprob": logprob, "bytes": None if "\N{REPLACEMENT CHARACTER}" in text else [*text.encode()]}
