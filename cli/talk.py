"""A conversation with a model, on a terminal or through a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

from lehr.artifacts.artifact import Artifact
from lehr.cli.say import say
from lehr.runtime.errors import UserError

Messages = list[dict[str, str]]
Reply = Callable[[Messages], str]

INTRODUCTION = "Talking to {name}: {about}. Each line is a message; /new forgets the conversation, /quit or Ctrl-D ends it."


@dataclass(frozen=True)
class Speaker:
    """`reply` answers the messages so far. `chat`: the model knows turns. They and the answer fit `context` tokens."""

    reply: Reply
    chat: bool
    context: int

    @property
    def about(self) -> str:
        turns = "" if self.chat else "a base model, which was not taught to chat and continues each line; "
        return f"{turns}conversation and answer fit {self.context} tokens"


def converse(speaker: Speaker, name: str) -> None:
    """Read messages from the terminal until the end of input, and print the model's answers."""
    say(INTRODUCTION.format(name=name, about=speaker.about))
    _edit_lines()
    messages: Messages = []
    while True:
        try:
            text = input("you> ").strip()
        except EOFError:
            say()
            return
        if text == "/quit":
            return
        if text == "/new":
            messages = []
            continue
        if text:
            messages.append({"role": "user", "content": text})
            try:
                answer = speaker.reply(messages)
            except UserError as error:  # too long: said, and not kept
                say(f"error: {error}", err=True)
                messages.pop()
                continue
            messages.append({"role": "assistant", "content": answer})
            say(f"model> {answer}")


def _edit_lines() -> None:
    """Arrow keys and a history for `input` on a terminal, where this Python has them: importing it is all that they need."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401


def speaker(artifact: Artifact, *, temperature: float, max_new_tokens: int, seed: int) -> Speaker:
    """The model of a checkpoint as one to talk to. A base model, which knows no turns, continues the
    last message instead. An answer gets what the prompt leaves of the context, and a word where that is less than asked for.
    Raises UserError if the checkpoint is damaged, and for a prompt that leaves nothing."""
    from lehr.data.synthetic.conversations import Message
    from lehr.model.generate import LanguageModel
    from lehr.post.chat import render, turn_end_id
    from lehr.runtime.seeds import derive
    from lehr.train.checkpointing.checkpoint import load_checkpoint

    loaded = load_checkpoint(artifact)
    tokenizer = loaded.tokenizer
    model = LanguageModel(loaded.model.eval(), tokenizer, chat=loaded.chat)
    end = turn_end_id(tokenizer) if loaded.chat else tokenizer.eos_id

    def reply(messages: Messages) -> str:
        if loaded.chat:
            turns = [Message(m["role"], m["content"]) for m in messages]
            prompt, _ = render(turns, tokenizer, add_generation_prompt=True)
        else:
            prompt = [tokenizer.eos_id, *tokenizer.encode(messages[-1]["content"])]
        room = model.max_length - len(prompt)
        if room < 1:
            what = f"{len(prompt)} tokens so far, and the model's context is {model.max_length}"
            raise UserError(what, remedy="ask less, or begin a new conversation with /new")
        if room < max_new_tokens:
            say(f"answers of up to {room} tokens: {len(prompt)} of the context's {model.max_length} are taken", err=True)
        (ids,) = model.generate([prompt], min(room, max_new_tokens), [end], temperature, derive(seed, "chat", len(messages)))
        return tokenizer.decode([i for i in ids if i != end]).strip()

    return Speaker(reply, loaded.chat, model.max_length)
