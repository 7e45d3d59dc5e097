"""The two kinds of requests, text and chat: from their bodies to prompts, and the forms of their answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lehr.data.synthetic.conversations import Message
from lehr.model.online import Picked
from lehr.post.chat import render
from lehr.runtime.errors import UserError
from lehr.serving.bodies import Chat, Completion, Refused
from lehr.serving.choices import Choice, chat_logprobs, completion_logprobs
from lehr.serving.engine import Engine
from lehr.serving.job import Asked, Job, check_answers, room_of

_DEFAULT_TOKENS = 16  # OpenAI's, of a completion


class CompletionJob(Job):
    """Its choices continue the prompts."""

    kind, prefix = "text_completion", "cmpl"

    @property
    def _echoes(self) -> bool:
        assert isinstance(self.asked.body, Completion)
        return bool(self.asked.body.echo)

    def formed(self, choice: Choice) -> dict[str, Any]:
        return self._entry(choice, with_prompt=True)

    def piece(self, choice: Choice) -> dict[str, Any]:
        return self._entry(choice, with_prompt=choice.tokens == len(choice.unsent))

    def _entry(self, choice: Choice, *, with_prompt: bool) -> dict[str, Any]:
        """`with_prompt`: these are the choice's first tokens."""
        offset = choice.sent
        text, picked = choice.take()
        before: list[Picked | int] = []
        if self._echoes and with_prompt:
            prompt = self.asked.prompts[choice.prompt]
            echoed = self.model.tokenizer.decode(prompt)
            text, choice.sent = echoed + text, choice.sent + len(echoed)
            before = [prompt[0], *(one.picked for one in self.scored[choice.prompt])] if self.scored else []
        logprobs = None
        if self.asked.top is not None:
            logprobs = completion_logprobs([*before, *picked], self.asked.top, self.model.tokenizer, offset)
        return {
            "index": choice.ticket.index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": choice.finish or None,
            **self.token_ids(choice, picked, with_prompt=with_prompt),
        }


class ChatJob(Job):
    """Its choices are the assistant's next turn."""

    kind, prefix = "chat.completion", "chatcmpl"

    def formed(self, choice: Choice) -> dict[str, Any]:
        text, picked = choice.take()
        return {
            "index": choice.ticket.index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            **self._common(choice, picked, with_prompt=True),
        }

    def opening(self, choice: Choice) -> Iterator[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        entry = {"index": choice.ticket.index, "delta": delta, "logprobs": None, "finish_reason": None}
        yield self._envelope([entry])

    def piece(self, choice: Choice) -> dict[str, Any]:
        first = choice.tokens == len(choice.unsent)
        text, picked = choice.take()
        delta = {"content": text} if text else {}
        return {"index": choice.ticket.index, "delta": delta, **self._common(choice, picked, with_prompt=first)}

    def _common(self, choice: Choice, picked: list[Picked], *, with_prompt: bool) -> dict[str, Any]:
        logprobs = chat_logprobs(picked, self.model.tokenizer) if self.asked.top is not None else None
        ids = self.token_ids(choice, picked, with_prompt=with_prompt)
        return {"logprobs": logprobs, "finish_reason": choice.finish or None, **ids}

    def _envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        found = super()._envelope(choices)
        return {**found, "object": "chat.completion.chunk"} if self.asked.body.stream else found


def completion(body: Completion, engine: Engine, name: str) -> CompletionJob:
    """Text is tokenized as it stands, without a token before it; an empty one is the end-of-text token, as before every
    document in training. Raises Refused for what cannot be answered."""
    model = engine.model
    prompts = [model.tokenizer.encode(p) if isinstance(p, str) else list(p) for p in body.prompts]
    prompts = [prompt or [model.tokenizer.eos_id] for prompt in prompts]
    check_answers(len(prompts) * body.n)
    if body.max_tokens == 0 and not body.echo:
        raise Refused("an answer of no tokens: give 1 or more, or echo the prompt", "max_tokens")
    limit = room_of(prompts, model, body.max_tokens, _DEFAULT_TOKENS)
    scores = body.prompt_logprobs is not None or (bool(body.echo) and body.logprobs is not None)
    return CompletionJob(Asked(body, prompts, limit, body.logprobs, scores), engine, name)


def chat(body: Chat, engine: Engine, name: str) -> ChatJob:
    """The conversation is rendered as in training, up to where the assistant's answer begins. Raises Refused for what cannot
    be answered, and from a base model, which knows no turns."""
    model = engine.model
    if not model.chat:
        raise Refused("this is a base model, which was not taught to chat; ask it at /v1/completions", "messages")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise Refused("give max_completion_tokens or max_tokens, not both", "max_tokens")
    try:
        messages = [Message(t.role, t.text, tuple(call.call for call in t.tool_calls), t.name) for t in body.messages]
        prompt, _ = render(messages, model.tokenizer, True, body.tools or None)
    except UserError as error:
        raise Refused(str(error), "messages") from None
    check_answers(body.n)
    wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if wanted == 0:
        raise Refused("an answer of no tokens: give 1 or more", "max_tokens")
    top = (body.top_logprobs or 0) if body.logprobs else None
    limit = room_of([prompt], model, wanted, None)
    return ChatJob(Asked(body, [prompt], limit, top, body.prompt_logprobs is not None), engine, name)
