"""One request: its prompts become tickets of the engine, and their events its answer, whole or as a stream."""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from lehr.model.generate import LanguageModel
from lehr.model.online import Picked, Sampling
from lehr.post.chat import turn_end_id
from lehr.runtime.seeds import derive
from lehr.serving.bodies import MAX_ANSWERS, Body, Refused
from lehr.serving.choices import Choice
from lehr.serving.engine import End, Engine, Ticket
from lehr.serving.prompt_logprobs import Scored, prompt_logprobs
from lehr.serving.text import TextStream

LOOK_SECONDS = 0.25  # so often it is looked whether the client is still there


class Gone(Exception):
    """The client has hung up: nobody wants the answer."""


@dataclass(frozen=True)
class Asked:
    """What both kinds of requests come down to. `top`: None without log-probabilities, else so many likeliest beside each."""

    body: Body
    prompts: list[list[int]]
    max_tokens: int
    top: int | None
    scores_prompt: bool


class Job:
    """A request at work. A subclass knows the form of its answers."""

    kind, prefix = "", ""  # of the answer's `object` and `id`

    def __init__(self, asked: Asked, engine: Engine, name: str) -> None:
        self.asked, self.engine, self.name = asked, engine, name
        self.model: LanguageModel = engine.model
        self.id, self.created = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time())
        self._events: SimpleQueue[tuple[int, Picked | End]] = SimpleQueue()
        self.choices = [self._choice(index) for index in range(len(asked.prompts) * asked.body.n)]
        self.scored: list[list[Scored]] = []

    def _choice(self, index: int) -> Choice:
        body, tokenizer = self.asked.body, self.model.tokenizer
        number, sample = divmod(index, body.n)
        seed = secrets.randbits(63) if body.seed is None else derive(body.seed, "answer", number, sample)
        temperature = 1.0 if body.temperature is None else body.temperature
        sampling = Sampling(temperature, body.top_p or 1.0, seed, self.asked.top or 0)
        ends = {tokenizer.eos_id, *([turn_end_id(tokenizer)] if self.model.chat else [])}
        stops = frozenset([*(body.stop_token_ids or []), *(() if body.ignore_eos else ends)])
        prompt = self.asked.prompts[number]
        ticket = Ticket(index, prompt, sampling, self.asked.max_tokens, stops, self._events)
        choice = Choice(ticket, TextStream(tokenizer, body.stops), number)
        choice.finish = "" if self.asked.max_tokens else "length"
        return choice

    def begin(self) -> None:
        """Queue it. Raises Full and InfraError as the engine does."""
        if self.asked.scores_prompt:
            self.scored = [self._score(prompt) for prompt in self.asked.prompts]
        if self.asked.max_tokens:
            self.engine.submit([choice.ticket for choice in self.choices])

    def _score(self, prompt: list[int]) -> list[Scored]:
        body = self.asked.body
        top = max(self.asked.top or 0, body.prompt_logprobs or 0)
        found: list[Scored] = self.engine.call(lambda: prompt_logprobs(self.model.model, prompt, body.temperature or 1.0, top))
        return found

    def whole(self, gone: Callable[[], bool]) -> dict[str, Any]:
        """The answer when it is complete. Raises Gone, and the error in which one of its choices ended."""
        for _ in self._heard(gone):
            pass
        answer = self._envelope([self.formed(choice) for choice in self.choices])
        return {**answer, "usage": self.usage()}

    def parts(self, gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The answer's chunks as they come. Raises as `whole` does."""
        for choice in self.choices:
            yield from self.opening(choice)
        if not self.asked.max_tokens:  # the prompt alone
            yield self._envelope([self.piece(choice) for choice in self.choices])
        for choice in self._heard(gone):
            if choice.finish or choice.fresh or (choice.unsent and self._reports_tokens):
                yield self._envelope([self.piece(choice)])
        options = self.asked.body.stream_options
        if options is not None and options.include_usage:
            yield {**self._envelope([]), "usage": self.usage()}

    @property
    def _reports_tokens(self) -> bool:
        return self.asked.top is not None or bool(self.asked.body.return_token_ids)

    def _heard(self, gone: Callable[[], bool]) -> Iterator[Choice]:
        """Each choice after each of its events, until all are complete."""
        looked = time.monotonic()
        try:
            while not all(choice.finish for choice in self.choices):
                if time.monotonic() - looked >= LOOK_SECONDS:
                    if gone():
                        raise Gone
                    looked = time.monotonic()
                try:
                    index, event = self._events.get(timeout=LOOK_SECONDS)
                except Empty:
                    continue
                choice = self.choices[index]
                if not choice.finish:
                    choice.hear(event)
                    yield choice
        finally:
            for choice in self.choices:
                choice.ticket.cancelled = True

    def _envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": self.kind, "created": self.created, "model": self.name, "choices": choices}

    def usage(self) -> dict[str, int]:
        """Tokens that came in and went out."""
        read, written = sum(map(len, self.asked.prompts)), sum(choice.tokens for choice in self.choices)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def token_ids(self, choice: Choice, picked: list[Picked], *, with_prompt: bool) -> dict[str, Any]:
        """vLLM's keys for what was asked in its words."""
        body = self.asked.body
        found: dict[str, Any] = {}
        if body.return_token_ids:
            found["token_ids"] = [one.token for one in picked]
            found |= {"prompt_token_ids": self.asked.prompts[choice.prompt]} if with_prompt else {}
        if body.prompt_logprobs is not None and with_prompt:
            found["prompt_logprobs"] = [None, *(self._ranked(one) for one in self.scored[choice.prompt])]
        return found

    def _ranked(self, scored: Scored) -> dict[str, Any]:
        entries = {token: (p, rank) for rank, (token, p) in enumerate(scored.picked.top, 1)}
        wanted = dict(list(entries.items())[: self.asked.body.prompt_logprobs])
        wanted[scored.picked.token] = (scored.picked.logprob, scored.rank)
        decode = self.model.tokenizer.decode
        return {
            str(token): {"logprob": p, "rank": rank, "decoded_token": decode([token], skip_special=False)}
            for token, (p, rank) in wanted.items()
        }

    def opening(self, choice: Choice) -> Iterator[dict[str, Any]]:
        """Chunks before a choice's first token."""
        yield from ()

    @abstractmethod
    def formed(self, choice: Choice) -> dict[str, Any]:
        """A complete choice."""

    @abstractmethod
    def piece(self, choice: Choice) -> dict[str, Any]:
        """What of a choice is new."""


def room_of(prompts: list[list[int]], model: LanguageModel, wanted: int | None, default: int | None) -> int:
    """Tokens that each answer may have: `wanted`, else `default`, else what the longest prompt leaves of the context. Raises
    Refused where prompt and answer do not fit it, and for an id that the model does not have."""
    longest, context = max(map(len, prompts)), model.max_length
    rows = model.model.config.vocab_size
    if any(token >= rows for prompt in prompts for token in prompt):
        raise Refused(f"the model has the token ids 0 to {rows - 1}", "prompt")
    room = context - longest
    length = wanted if wanted is not None else room if default is None else min(default, room)
    if room < 1 or length > room:
        asked = f" and an answer of up to {wanted}" if wanted is not None else ""
        raise Refused(f"the prompt has {longest} tokens{asked}, and the model's context is {context}", "max_tokens")
    return length


def check_answers(count: int) -> None:
    """Raises Refused if one request asks for more than MAX_ANSWERS answers."""
    if count > MAX_ANSWERS:
        raise Refused(f"{count} answers, and one request may ask for {MAX_ANSWERS}", "n")
