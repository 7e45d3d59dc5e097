"""Token ids of a conversation by a Jinja template, and the mask of the assistant's own.

The text is that of transformers' `apply_chat_template`, character by character. Special tokens are only those that the template
itself writes: a name of one in a content, a tool or its arguments is encoded as ordinary text. Positions are characters of the
rendered text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

from lehr.data.synthetic.conversations import Message
from lehr.post.chat_export import has_generation
from lehr.post.chat_tokenizer import ChatTokenizer
from lehr.post.jinja import compiled
from lehr.post.turns import Values, check_kept, check_order, values_of
from lehr.runtime.errors import UserError

Special = tuple[int, int, str]  # start, end, name
_PRIVATE = range(0xE000, 0xF900)  # code points without a meaning of their own
_TAKE_ANOTHER = "take another chat template, or mark the assistant's text in it by {% generation %}"


@dataclass(frozen=True)
class _Chat:
    """One conversation under one template."""

    template: str
    values: Values
    names: tuple[str, ...]

    def text(self, messages: int | None = None, prompt: bool = False) -> str:
        """The rendering, or that of the first so many messages."""
        if messages is None:
            return compiled(self.template).text(self.values)
        rows = self.values["messages"][:messages]
        return compiled(self.template).text({**self.values, "messages": rows, "add_generation_prompt": prompt})

    def guarded(self, guard: str, text: str, marks: tuple[str, str] | None = None) -> str:
        """The rendering of contents whose names of special tokens are broken by the character `guard`; `text` is that of the
        contents as they are."""
        pattern = _begins(self.names)
        broken = {key: _broken(self.values[key], pattern, guard) for key in ("messages", "tools")}
        if marks is None and all(self.values[key] == value for key, value in broken.items()):
            return text  # as nearly always
        return compiled(self.template).text({**self.values, **broken}, marks)


def render_jinja(
    messages: Sequence[Message], tokenizer: ChatTokenizer, add_generation_prompt: bool, tools: Sequence[dict[str, Any]] | None
) -> tuple[list[int], list[bool]]:
    """As `lehr.post.chat.render`, for a tokenizer that has a template of its own."""
    template = tokenizer.chat_template
    check_order(messages, template, add_generation_prompt)
    values = values_of(messages, list(tools) if tools else None, add_generation_prompt, tokenizer.template_tokens)
    chat = _Chat(template, values, _breakable(tokenizer.special_names))
    text = chat.text()
    check_kept(messages, text, template, values)
    guards = _unused(template, values)
    specials = _specials(chat, text, guards[0])
    spans, cuts = _trained(chat, messages, text, specials, guards)
    return _tokens(text, specials, spans, cuts, tokenizer)


@lru_cache(maxsize=16)
def turn_end(template: str, names: tuple[str, ...], tokens: tuple[tuple[str, str], ...]) -> str:
    """The special token of `names` that ends an answer under this template, or "" if none does; `tokens` are those that the
    template can name. Raises UserError if the template refuses the shortest conversation."""
    messages = [Message("user", "a"), Message("assistant", "b")]
    values = values_of(messages, None, False, dict(tokens))
    chat = _Chat(template, values, _breakable(names))
    text, guards = chat.text(), _unused(template, values)
    specials = _specials(chat, text, guards[0])
    try:
        spans, _ = _trained(chat, messages, text, specials, guards)
        last = spans[-1][1]
    except UserError:  # not to be trained on, and yet sampled from: what stands last
        last = _turn_end(text, 0, len(text), specials)
    return next((name for _, end, name in specials if end == last), "")


def _breakable(names: tuple[str, ...]) -> tuple[str, ...]:
    """A name of one character cannot be broken up: such a token stays ordinary text, in a template too."""
    return tuple(name for name in names if len(name) > 1)


def _unused(template: str, values: Values) -> list[str]:
    """Three characters that neither the template nor what it is given contains."""
    said = set(template + json.dumps(values, ensure_ascii=False, default=str))
    return list(islice((chr(code) for code in _PRIVATE if chr(code) not in said), 3))


def _broken(value: Any, pattern: re.Pattern[str], guard: str) -> Any:
    if isinstance(value, str):
        return pattern.sub(rf"\g<first>{guard}", value)
    if isinstance(value, dict):
        return {_broken(key, pattern, guard): _broken(inner, pattern, guard) for key, inner in value.items()}
    return [_broken(inner, pattern, guard) for inner in value] if isinstance(value, list | tuple) else value


def _specials(chat: _Chat, text: str, guard: str) -> list[Special]:
    """The special tokens that the template itself wrote. Raises UserError where contents with such names change what the
    template does."""
    if not chat.names:
        return []
    found, at = list[Special](), 0
    for i, piece in enumerate(_names(chat.names).split(chat.guarded(guard, text))):
        piece = piece if i % 2 else piece.replace(guard, "")
        if i % 2:
            found.append((at, at + len(piece), piece))
        if not text.startswith(piece, at):
            raise _unclear()
        at += len(piece)
    if at != len(text):
        raise _unclear()
    return found


def _unclear() -> UserError:
    what = "the chat template changes a text that holds the name of a special token, so which is meant cannot be told"
    return UserError(what, remedy="remove the name from the text, or take another chat template")


def _trained(
    chat: _Chat, messages: Sequence[Message], text: str, specials: list[Special], guards: list[str]
) -> tuple[list[tuple[int, int]], list[int]]:
    """The spans of the assistant's own text, each with its end-of-turn token, and where the text is cut between tokens beside
    them: wherever a prompt for sampling ends."""
    turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
    prompts = {i: chat.text(i, True) for i in turns}
    tagged = _tagged(chat, text, guards) if turns and has_generation(chat.template) else None
    last = None if chat.values["add_generation_prompt"] else len(messages) - 1
    for i in turns:
        # Where the template has the tag, earlier turns may be rewritten (as when thoughts are removed): not the last.
        if not text.startswith(prompts[i]) and (tagged is None or i == last):
            raise _unstable(i)
    cuts = [len(prompt) for prompt in prompts.values() if text.startswith(prompt)]
    if tagged is not None:
        begins = {start: stop for start, stop, _ in specials}
        stops = {stop for _, stop, _ in specials}
        ended = {(start, end) for start, end in tagged if start < end and end in stops}
        return [span if span in ended else (span[0], begins.get(span[1], span[1])) for span in tagged], cuts
    spans = []
    for i in turns:
        whole = text if i == last else chat.text(i + 1)
        if not text.startswith(whole) or len(whole) < len(prompts[i]):
            raise _unstable(i)
        spans.append((len(prompts[i]), _turn_end(text, len(prompts[i]), len(whole), specials)))
    return spans, cuts


def _unstable(turn: int) -> UserError:
    what = f"under this chat template turn {turn + 1} is not what follows its prompt, so what to train on cannot be told"
    return UserError(what, remedy=_TAKE_ANOTHER)


def _turn_end(text: str, start: int, end: int, specials: list[Special]) -> int:
    """The end of a turn's last special token, where but white space follows it."""
    inside = [stop for begin, stop, _ in specials if start <= begin and stop <= end]
    return inside[-1] if inside and not text[inside[-1] : end].strip() else end


def _tagged(chat: _Chat, text: str, guards: list[str]) -> list[tuple[int, int]] | None:
    """The spans in the tag `generation`, or None if the marks change what the template does, or it marks nothing."""
    guard, *marks = guards
    spans, at, start = list[tuple[int, int]](), 0, 0
    for piece in re.split(f"([{marks[0]}{marks[1]}])", chat.guarded(guard, text, (marks[0], marks[1]))):
        if piece == marks[0]:
            start = at
        elif piece == marks[1]:
            spans.append((start, at))
        else:
            ours = piece.replace(guard, "")
            if not text.startswith(ours, at):
                return None
            at += len(ours)
    return spans or None if at == len(text) else None  # an empty answer has its end of turn to learn


def _tokens(
    text: str, specials: list[Special], spans: list[tuple[int, int]], cuts: list[int], tokenizer: ChatTokenizer
) -> tuple[list[int], list[bool]]:
    """Each special token by its id, and the texts between them, cut at `cuts` and at the ends of `spans`."""
    names = {start: name for start, _, name in specials}
    bounds = {0, len(text), *cuts, *(at for span in spans for at in span)}
    bounds = {at for at in bounds if not any(start < at < end for start, end, _ in specials)}
    bounds |= {at for start, end, _ in specials for at in (start, end)}
    ids, mask = list[int](), list[bool]()
    for start, end in pairwise(sorted(bounds)):
        found = [tokenizer.special_ids[names[start]]] if start in names else tokenizer.encode(text[start:end])
        ids += found
        mask += [any(a <= start and end <= b for a, b in spans)] * len(found)
    return ids, mask


@lru_cache(maxsize=16)
def _names(names: tuple[str, ...]) -> re.Pattern[str]:
    """A name of a special token, the longest that begins at a place."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})")


@lru_cache(maxsize=16)
def _begins(names: tuple[str, ...]) -> re.Pattern[str]:
    """The first character of each name, also of those that overlap others."""
    return re.compile(rf"(?={_names(names).pattern if names else '(?!)'})(?P<first>.)", re.DOTALL)
