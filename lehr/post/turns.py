"""Which turns a Jinja chat template takes: roles, their order, and that none is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, nodes

from lehr.data.synthetic.conversations import Message
from lehr.post.chat_export import without_generation
from lehr.post.jinja import compiled
from lehr.runtime.errors import UserError

Values = dict[str, Any]  # what a template is given
_ROLES = ("system", "user", "assistant", "tool")  # that any template may have, by writing out a message's role
_TOKENS = {"eos_token": "<eos>", "pad_token": "<pad>"}  # of a rendering whose words alone are looked at
_TOOL_ROLES = ("tool", "tool_response")
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "tool7919", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
# Who may speak after whom; None begins.
_AFTER: dict[str, tuple[str | None, ...]] = {
    "system": (None,),
    "available_tools": (None, "system"),
    "user": (None, "system", "available_tools", "assistant"),
    "assistant": ("user", *_TOOL_ROLES),
    "tool": ("assistant", *_TOOL_ROLES),
    "tool_response": ("assistant", *_TOOL_ROLES),
}
_WITH_TOOLS = "name one that has them in chat.template, such as granite, or leave tools out"
_ORDER = "begin with an optional system message, then let user and assistant speak in turn, and tools after the assistant"


def check_order(messages: Sequence[Message], template: str, add_generation_prompt: bool) -> None:
    """Raises UserError for roles that the template does not know or Lehr cannot place, for turns out of order, and for contents
    that are not text."""
    roles = [message.role for message in messages]
    known = [role for role in _AFTER if role in _ROLES or role in _texts(template)]
    strange = next((role for role in roles if role not in known), None)
    if strange is not None:
        raise UserError(f"the chat template has no role {strange!r:.80}", remedy=f"its roles are: {', '.join(known)}")
    wrong = any(before not in _AFTER[role] for before, role in zip([None, *roles], roles, strict=False))
    if wrong or not set(roles) & {"user"}:
        raise UserError(f"a chat cannot have the turns {roles}", remedy=_ORDER)
    others = [type(m.content).__name__ for m in messages if not isinstance(m.content, str)]
    if others:
        raise UserError(f"the content of a turn is text, not {others[0]}", remedy="give each message's content as text")
    if any(m.tool_calls and m.role != "assistant" for m in messages):
        raise UserError("only the assistant calls tools", remedy="move tool_calls to an assistant's message")
    if add_generation_prompt and roles[-1] not in ("user", *_TOOL_ROLES):
        raise UserError("there is nothing to answer after the assistant's turn", remedy="end the messages with a user's")


@lru_cache(maxsize=16)
def _texts(template: str) -> frozenset[str]:
    """The texts that stand in a template as constants."""
    compiled(template)
    tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(without_generation(template))
    return frozenset(node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))


def check_kept(messages: Sequence[Message], text: str, template: str, values: Values) -> None:
    """Raises UserError if the `text` that the template made of `messages` leaves a turn, a call of a tool, or the tools out."""
    _check_shape(template, _shape(messages), bool(values["tools"]), values["add_generation_prompt"])
    for number, message in enumerate(messages):
        if message.content.strip() not in text:
            # Changed or cut, as thoughts are: then another content gives another text.
            rows = list(values["messages"])
            rows[number] = {**rows[number], "content": f"{_sentinel(number)} {message.content} {_sentinel(number)}"}
            if compiled(template).text({**values, "messages": rows}) == text:
                raise _dropped(number, message.role)


def _shape(messages: Sequence[Message]) -> tuple[tuple[str, bool, int], ...]:
    return tuple((m.role, bool(m.content.strip()), len(m.tool_calls)) for m in messages)


def _sentinel(number: int, call: int | None = None) -> str:
    return f"turn{number}" + ("" if call is None else f"call{call}") + "of7919"


@lru_cache(maxsize=4096)
def _check_shape(template: str, shape: tuple[tuple[str, bool, int], ...], tools: bool, prompt: bool) -> None:
    """Messages of this shape with contents that occur nowhere else: each must be there."""
    messages = [
        Message(role, _sentinel(i) if speaks else "", tuple({"name": _sentinel(i, c), "arguments": {}} for c in range(calls)))
        for i, (role, speaks, calls) in enumerate(shape)
    ]
    values = values_of(messages, [_TOOL] if tools else None, prompt)
    try:
        text = compiled(template).text(values)
    except UserError:
        return  # refused for what the contents are: the messages themselves decide
    for i, message in enumerate(messages):
        if message.content not in text:
            raise _dropped(i, message.role)
        if any(call["name"] not in text for call in message.tool_calls):
            what = f"the chat template drops the tool calls of turn {i + 1}"
            raise UserError(what, remedy=_WITH_TOOLS)
    if tools and _TOOL["function"]["name"] not in text:
        raise UserError("the chat template has no place for tools", remedy=_WITH_TOOLS)


def values_of(messages: Sequence[Message], tools: Any, prompt: bool, tokens: Mapping[str, str] = _TOKENS) -> Values:
    """What transformers gives a template: `tokens` are the special tokens that it can name."""
    return {
        "messages": [m.row() for m in messages], "tools": tools, "documents": None, "add_generation_prompt": prompt,
        **tokens,
    }  # fmt: skip


def _dropped(number: int, role: str) -> UserError:
    remedy = "take a template that has this role, or leave the turn out"
    return UserError(f"the chat template drops turn {number + 1}, the {role}'s", remedy=remedy)
