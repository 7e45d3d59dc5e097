"""The shapes in which people write conversations, preferences and prompts, and what each becomes.

    conversations   messages: [{role, content, tool_calls?, name?}]          tools?: [...]
                    conversations: [{from, value}]  (ShareGPT)               system?: text
                    prompt: text or messages, completion: text or messages
                    instruction, input?, output, history?  (Alpaca)
    preferences     chosen, rejected: text or messages, prompt: text or messages; or chosen and rejected with the whole dialogue
                    conversations: [...], chosen: {from, value}, rejected: {from, value}  (ShareGPT)
                    prompt, answers: [{text, rating}]
    prompts         prompt: text or messages, verifier: name, arguments: {...}

Roles are system, user, assistant and tool; ShareGPT's human, gpt, function_call and observation are those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.data.synthetic.conversations import Message
from lehr.runtime.errors import UserError

_ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "bot": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "tool": "tool", "function": "tool",
    "tool_response": "tool", "observation": "tool", "function_call": "assistant", "tool_call": "assistant",
    "developer": "system",
}  # fmt: skip
_CALLS = ("function_call", "tool_call")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Turns, of which at least one is an assistant's; `tools` are descriptions of functions it may call, as JSON values."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


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
    """The turns of a question, and the verifier of its answer."""

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
    "prompts": "prompt and verifier",
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
        "Alpaca": ("instruction", "output"),
    },
    "preferences": {
        "ShareGPT pairs": ("conversations", "chosen", "rejected"), "pairs": ("chosen", "rejected"),
        "message pairs": ("chosen_messages", "rejected_messages"), "rated answers": ("prompt", "answers"),
    },
    "prompts": {"verified prompts": ("prompt", "verifier")},
}  # fmt: skip


# -- conversations


def conversation(values: Values) -> Conversation:
    """The conversation of a row. Raises BadRow for an unknown shape or role, two system turns, turns without text, and a
    conversation in which no assistant speaks."""
    shape = shape_of("conversations", values)
    if shape == "messages":
        messages = turns(values["messages"], "messages")
    elif shape == "ShareGPT":
        messages = turns(values["conversations"], "conversations")
    elif shape == "prompt and completion":
        messages = [*_prompt(values["prompt"]), *_answer(values["completion"], "completion")]
    else:
        messages = _alpaca(values)
    messages = _with_system(messages, values.get("system"))
    _check(messages)
    if not any(m.role == "assistant" for m in messages):
        raise BadRow("no turn of an assistant: there is nothing to learn", "give each conversation an answer")
    return Conversation(tuple(messages), tuple(_tools(values.get("tools"))))


def turns(value: Any, key: str) -> list[Message]:
    """The turns of a list of messages. Raises BadRow."""
    value = _decoded(value)
    if not isinstance(value, list) or not value:
        raise BadRow(f"{key}: not a list of turns", "write [{role, content}, ...]")
    return [_turn(turn, f"{key}.{number}") for number, turn in enumerate(value)]


def _turn(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise BadRow(f"{where}: {_said(value)} is no turn", "write {role, content}")
    said = value.get("role", value.get("from"))
    if not isinstance(said, str):
        raise BadRow(f"{where}: a turn without a role", "give each turn its role: system, user, assistant or tool")
    role = _ROLES.get(said.strip().lower())
    if role is None:
        raise BadRow(f"{where}: unknown role {_said(said)}", "roles are system, user, assistant and tool")
    content = _text(value.get("content", value.get("value")), where, absent=bool(value.get("tool_calls")))
    calls = _calls(content if said in _CALLS else value.get("tool_calls"), where)
    if said in _CALLS:
        content = ""
    name = value.get("name")
    return message(role, content, calls, name if isinstance(name, str) else "")


def message(role: str, content: str, calls: tuple[dict[str, Any], ...] = (), name: str = "") -> Message:
    """A turn."""
    return Message(role, content, calls, name) if calls or name else Message(role, content)


def _calls(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    """Calls of tools as {name, arguments}."""
    value = _decoded(value)
    if not value:
        return ()
    found = []
    for call in value if isinstance(value, list) else [value]:
        call = _decoded(call)
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise BadRow(f"{where}: {_said(call)} is no call of a tool", "write {name, arguments}")
        arguments = _decoded(inner.get("arguments", {}))
        if not isinstance(arguments, dict):
            raise BadRow(f"{where}: the arguments of {_said(inner['name'])} are no object", "write arguments: {NAME: VALUE}")
        found.append({"name": inner["name"], "arguments": arguments})
    return tuple(found)


def _tools(value: Any) -> list[dict[str, Any]]:
    value = _decoded(value)
    if value in (None, "", [], {}):
        return []
    found = [_decoded(tool) for tool in (value if isinstance(value, list) else [value])]
    if any(not isinstance(tool, dict) for tool in found):
        raise BadRow("tools: not a list of descriptions", "write [{name, description, parameters}, ...]")
    return found


def _decoded(value: Any) -> Any:
    """The value of a JSON text, as data sets with fixed columns hold lists and objects; anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text(value: Any, where: str, *, absent: bool = False) -> str:
    """The text of a content: text, or a list of parts of text. Raises BadRow for other parts, and for text that is no valid
    Unicode."""
    if value is None and absent:
        return ""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        for part in value:
            if part.get("type") != "text":
                raise BadRow(f"{where}: a part of type {_said(part.get('type'))}", "only parts of type text are read")
        value = "".join(str(part.get("text", part.get("value", ""))) for part in value)
    if not isinstance(value, str):
        raise BadRow(f"{where}: {_said(value)} is no text", "give each turn's content as text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{where}: lone surrogates, no valid Unicode", "re-encode the file as UTF-8") from None
    return value


def _said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _prompt(value: Any) -> list[Message]:
    """The turns before an answer: messages, or one text of a user."""
    value = _decoded(value) if isinstance(value, str) and value.lstrip().startswith("[{") else value
    if isinstance(value, list):
        return turns(value, "prompt")
    text = _text(value, "prompt")
    if not text.strip():
        raise BadRow("prompt: empty", "give each row a question")
    return [Message("user", text)]


def _answer(value: Any, key: str) -> list[Message]:
    """An answer: text, one message, or several."""
    if isinstance(value, dict):
        return [_turn(value, key)]
    if isinstance(value, list):
        return turns(value, key)
    return [Message("assistant", _text(value, key))]


def _alpaca(values: Values) -> list[Message]:
    messages = []
    for number, pair in enumerate(values.get("history") or []):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow(f"history.{number}: not a question with its answer", "write [[question, answer], ...]")
        messages += [Message("user", _text(pair[0], "history")), Message("assistant", _text(pair[1], "history"))]
    question, given = _text(values["instruction"], "instruction"), _text(values.get("input") or "", "input")
    asked = "\n".join(text for text in (question, given) if text)
    return [*messages, Message("user", asked), Message("assistant", _text(values["output"], "output"))]


def _with_system(messages: list[Message], system: Any) -> list[Message]:
    text = "" if system is None else _text(system, "system")
    return [Message("system", text), *messages] if text.strip() else messages


def _check(messages: list[Message]) -> None:
    """What no template can render: a second system turn, and empty turns."""
    systems = [number for number, m in enumerate(messages) if m.role == "system"]
    if len(systems) > 1:
        raise BadRow(f"turns {systems[0]} and {systems[1]} are both of the role system", "join them into one, the first")
    if systems and systems[0] != 0:
        raise BadRow(f"turn {systems[0]} is of the role system, which can only be the first", "put it first")
    for number, m in enumerate(messages):
        if m.role in ("user", "assistant") and not m.content.strip() and not getattr(m, "tool_calls", ()):
            raise BadRow(f"turn {number}, of the {m.role}, is empty", "give each turn its text, or leave the row out")


# -- preferences


def preference(values: Values) -> Preference | Rated:
    """The preference of a row. Raises BadRow as `conversation` does, and for an empty answer, for equal answers and for two
    dialogues of different prompts."""
    shape = shape_of("preferences", values)
    if shape == "rated answers":
        return _rated(values)
    if shape == "ShareGPT pairs":
        prompt = turns(values["conversations"], "conversations")
        sides = [_answer(values[side], side) for side in ("chosen", "rejected")]
    else:
        keys = ("chosen_messages", "rejected_messages") if shape == "message pairs" else ("chosen", "rejected")
        prompt = _prompt(values["prompt"]) if values.get("prompt") is not None else []
        sides = [_answer(_decoded(values[key]) if prompt == [] else values[key], key) for key in keys]
    prompt, texts = _apart(prompt, sides)
    prompt = _with_system(prompt, values.get("system"))
    _check(prompt)
    if texts[0].strip() == texts[1].strip():
        raise BadRow("chosen and rejected are equal", "leave the row out")
    return Preference(tuple(prompt), texts[0], texts[1], _ratings(values))


def _apart(prompt: list[Message], sides: list[list[Message]]) -> tuple[list[Message], list[str]]:
    """The turns before the answers, and the two answers. Raises BadRow."""
    texts = []
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        *before, last = side
        if last.role != "assistant":
            raise BadRow(f"{name}: its last turn is not the assistant's", "end both sides with the answer")
        if not last.content.strip():
            raise BadRow(f"{name}: the answer is empty", "give both sides an answer, or leave the row out")
        if before and prompt and before != prompt:
            raise BadRow(f"{name}: its turns before the answer are not those of the prompt", "give one prompt to both sides")
        prompt = prompt or before
        texts.append(last.content)
    if not prompt:
        raise BadRow("no prompt before the answers", "add a prompt, or give chosen and rejected as messages")
    if prompt[-1].role not in ("user", "tool"):
        raise BadRow("the prompt does not end with a turn of the user", "end it with the question")
    return prompt, texts


def _ratings(values: Values) -> tuple[float, float] | None:
    for chosen, rejected in (("chosen_rating", "rejected_rating"), ("score_chosen", "score_rejected")):
        pair = values.get(chosen), values.get(rejected)
        if all(isinstance(rating, int | float) and not isinstance(rating, bool) for rating in pair):
            return float(pair[0]), float(pair[1])  # type: ignore[arg-type]
    return None


def _rated(values: Values) -> Rated:
    prompt, answers = _prompt(values["prompt"]), _decoded(values["answers"])
    prompt = _with_system(prompt, values.get("system"))
    _check(prompt)
    found = []
    for number, answer in enumerate(answers if isinstance(answers, list) else []):
        where = f"answers.{number}"
        text = answer.get("text", answer.get("content")) if isinstance(answer, dict) else None
        rating = answer.get("rating", answer.get("score")) if isinstance(answer, dict) else None
        if isinstance(rating, dict):  # several aspects: their mean, as in OLMo 2 section 5
            aspects = [float(value) for value in rating.values() if isinstance(value, int | float)]
            rating = sum(aspects) / len(aspects) if aspects else None
        if not isinstance(text, str) or not text.strip() or not isinstance(rating, int | float):
            raise BadRow(
                f"{where}: not a text with a rating", "write {text, rating}; a rating is a number, or one for each aspect"
            )
        found.append((_text(text, where), float(rating)))
    if len(found) < 2:
        raise BadRow(f"{len(found)} answers, where two or more are compared", "give each prompt several rated answers")
    return Rated(tuple(prompt), tuple(found))


# -- prompts


def verified_prompt(values: Values) -> Prompt:
    """The prompt of a row, with its verifier's name and arguments. Raises BadRow."""
    shape_of("prompts", values)
    prompt = _with_system(_prompt(values["prompt"]), values.get("system"))
    _check(prompt)
    if prompt[-1].role not in ("user", "tool"):
        raise BadRow("the prompt does not end with a turn of the user", "end it with the question")
    arguments, name = _decoded(values.get("arguments", {})), values["verifier"]
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise BadRow(f"verifier {_said(name)} with the arguments {_said(arguments)}", "give a name, and an object of arguments")
    return Prompt(tuple(prompt), name, arguments)
