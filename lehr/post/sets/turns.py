"""Turns as people write them, and what each becomes. Roles are system, user, assistant and tool; ShareGPT's human, gpt,
function_call and observation are those."""

from __future__ import annotations

import json
from typing import Any

from lehr.data.synthetic.conversations import Message
from lehr.post.sets.shapes import BadRow

_ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "bot": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "tool": "tool", "function": "tool",
    "tool_response": "tool", "observation": "tool", "function_call": "assistant", "tool_call": "assistant",
    "developer": "system",
}  # fmt: skip
_CALLS = ("function_call", "tool_call")


def turns(value: Any, key: str) -> list[Message]:
    """The turns of a list of messages. Raises BadRow."""
    value = decoded(value)
    if not isinstance(value, list) or not value:
        raise BadRow(f"{key}: not a list of turns", "write [{role, content}, ...]")
    return [turn(each, f"{key}.{number}") for number, each in enumerate(value)]


def turn(value: Any, where: str) -> Message:
    """One turn. Raises BadRow for an unknown role and for content that is no text."""
    if not isinstance(value, dict):
        raise BadRow(f"{where}: {said(value)} is no turn", "write {role, content}")
    named = value.get("role", value.get("from"))
    if not isinstance(named, str):
        raise BadRow(f"{where}: a turn without a role", "give each turn its role: system, user, assistant or tool")
    role = _ROLES.get(named.strip().lower())
    if role is None:
        raise BadRow(f"{where}: unknown role {said(named)}", "roles are system, user, assistant and tool")
    content = text_in(value.get("content", value.get("value")), where, absent=bool(value.get("tool_calls")))
    calls = _calls(content if named in _CALLS else value.get("tool_calls"), where)
    if named in _CALLS:
        content = ""
    name = value.get("name")
    return message(role, content, calls, name if isinstance(name, str) else "")


def message(role: str, content: str, calls: tuple[dict[str, Any], ...] = (), name: str = "") -> Message:
    """A turn."""
    return Message(role, content, calls, name) if calls or name else Message(role, content)


def _calls(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    """Calls of tools as {name, arguments}."""
    value = decoded(value)
    if not value:
        return ()
    found = []
    for call in value if isinstance(value, list) else [value]:
        call = decoded(call)
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise BadRow(f"{where}: {said(call)} is no call of a tool", "write {name, arguments}")
        arguments = decoded(inner.get("arguments", {}))
        if not isinstance(arguments, dict):
            raise BadRow(f"{where}: the arguments of {said(inner['name'])} are no object", "write arguments: {NAME: VALUE}")
        found.append({"name": inner["name"], "arguments": arguments})
    return tuple(found)


def tools_of(value: Any) -> list[dict[str, Any]]:
    """Descriptions of tools. Raises BadRow for anything else."""
    value = decoded(value)
    if value in (None, "", [], {}):
        return []
    found = [decoded(tool) for tool in (value if isinstance(value, list) else [value])]
    if any(not isinstance(tool, dict) for tool in found):
        raise BadRow("tools: not a list of descriptions", "write [{name, description, parameters}, ...]")
    return found


def decoded(value: Any) -> Any:
    """The value of a JSON text, as data sets with fixed columns hold lists and objects; anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text_in(value: Any, where: str, *, absent: bool = False) -> str:
    """The text of a content: text, or a list of parts of text. Raises BadRow for other parts, and for text that is no valid
    Unicode."""
    if value is None and absent:
        return ""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        for part in value:
            if part.get("type") != "text":
                raise BadRow(f"{where}: a part of type {said(part.get('type'))}", "only parts of type text are read")
        value = "".join(str(part.get("text", part.get("value", ""))) for part in value)
    if not isinstance(value, str):
        raise BadRow(f"{where}: {said(value)} is no text", "give each turn's content as text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{where}: lone surrogates, no valid Unicode", "re-encode the file as UTF-8") from None
    return value


def said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def prompt_of(value: Any) -> list[Message]:
    """The turns before an answer: messages, or one text of a user. Raises BadRow."""
    value = decoded(value) if isinstance(value, str) and value.lstrip().startswith("[{") else value
    if isinstance(value, list):
        return turns(value, "prompt")
    text = text_in(value, "prompt")
    if not text.strip():
        raise BadRow("prompt: empty", "give each row a question")
    return [Message("user", text)]


def answer_of(value: Any, key: str) -> list[Message]:
    """An answer: text, one message, or several."""
    if isinstance(value, dict):
        return [turn(value, key)]
    if isinstance(value, list):
        return turns(value, key)
    return [Message("assistant", text_in(value, key))]


def with_system(messages: list[Message], system: Any) -> list[Message]:
    text = "" if system is None else text_in(system, "system")
    return [Message("system", text), *messages] if text.strip() else messages


def check(messages: list[Message]) -> None:
    """Raises BadRow for what no template can render: a second system turn, and empty turns."""
    systems = [number for number, m in enumerate(messages) if m.role == "system"]
    if len(systems) > 1:
        raise BadRow(f"turns {systems[0]} and {systems[1]} are both of the role system", "join them into one, the first")
    if systems and systems[0] != 0:
        raise BadRow(f"turn {systems[0]} is of the role system, which can only be the first", "put it first")
    for number, m in enumerate(messages):
        if m.role in ("user", "assistant") and not m.content.strip() and not getattr(m, "tool_calls", ()):
            raise BadRow(f"turn {number}, of the {m.role}, is empty", "give each turn its text, or leave the row out")
