"""JSON under a schema (jsonschema), and calls of tools: expected ones, or any that the tools' own schemas allow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from lehr.post.served import ready_for_schemas, valid
from lehr.post.verifiers.arguments import Args, Arguments, Text, need
from lehr.post.verifiers.texts import object_without_twins
from lehr.post.verifiers.worker import Worker

_SECONDS = 2.0  # a schema's patterns may backtrack
_WORKER = Worker("jsonschema", ("jsonschema",), ready_for_schemas)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL | re.IGNORECASE)
_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_GRANITE = "<|tool_call|>"


def _loaded(text: str) -> tuple[Any, bool]:
    """The JSON value that a text is, bare or fenced; and whether it is one. A key that stands twice is refused."""
    text = text.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text, object_pairs_hook=object_without_twins, parse_constant=_refuse), True
    except (ValueError, RecursionError):
        return None, False


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def json_schema(args: Args, text: str) -> bool:
    """The whole response, bare or in one fence, is JSON that is valid under `schema`."""
    value, is_json = _loaded(text)
    return is_json and _WORKER.ask(valid, [args["schema"], [value]], _SECONDS) is True


def calls_of(text: str) -> list[dict[str, Any]]:
    """The calls of tools that make up a response: JSON objects of `name` and `arguments`, alone or in a list, in
    <tool_call> tags, or after Granite's marker. [] if any of it is not a call."""
    text = text.strip()
    tagged = _TAGGED.findall(text)
    if tagged and _TAGGED.sub("", text).strip():
        return []
    calls: list[dict[str, Any]] = []
    for part in tagged or [text.removeprefix(_GRANITE)]:
        value, is_json = _loaded(part)
        for call in value if isinstance(value, list) else [value]:
            read = _call(call) if is_json else None
            if read is None:
                return []
            calls.append(read)
    return calls


def _call(value: Any) -> dict[str, Any] | None:
    """One call, its arguments as an object or as the text of one; OpenAI's `function` around it is taken off."""
    if isinstance(value, dict) and set(value) >= {"function"} and set(value) <= {"id", "type", "function"}:
        value = value["function"]
    if not isinstance(value, dict) or set(value) != {"name", "arguments"} or not isinstance(value["name"], str):
        return None
    arguments = value["arguments"]
    if isinstance(arguments, str):
        arguments = _loaded(arguments)[0]
    return {"name": value["name"], "arguments": arguments} if isinstance(arguments, dict) else None


def tool_call(args: Args, text: str) -> bool:
    """The response consists of calls of tools alone: exactly those of `calls`, in any order, as JSON; and under
    `tools` each call is of one of them, with arguments valid under its `parameters`."""
    calls = calls_of(text)
    if not calls:
        return False
    if "calls" in args and sorted(map(_canonical, calls)) != sorted(map(_canonical, args["calls"])):
        return False
    tools = {tool["name"]: tool["parameters"] for tool in map(_unwrapped, args.get("tools", []))}
    if not tools:
        return True
    if any(call["name"] not in tools for call in calls):
        return False
    return all(_WORKER.ask(valid, [tools[call["name"]], [call["arguments"]]], _SECONDS) is True for call in calls)


def _canonical(call: dict[str, Any]) -> str:
    return json.dumps({"name": call["name"], "arguments": call["arguments"]}, sort_keys=True)


def _unwrapped(tool: Any) -> Any:
    """A tool without OpenAI's `function` around it."""
    inner = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    return inner if isinstance(inner, dict) else tool


def _check_schema(schema: Any) -> None:
    """Raises ValueError if it is no JSON schema, or refers to another document; UserError without the package."""
    need("json_schema", "jsonschema")
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"it is no JSON schema: {error.message[:200]}") from error
    outside = next((name for name in _references(schema) if not name.startswith("#")), None)
    if outside is not None:
        raise ValueError(f"it refers to another document, {outside!r}, and nothing is fetched")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(inner, str):
                yield inner
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


class Schema(Arguments):
    schema_: Annotated[dict[str, Any], Field(alias="schema")]

    @model_validator(mode="after")
    def _is_one(self) -> Schema:
        _check_schema(self.schema_)
        return self


class Call(Arguments):
    name: Text
    arguments: dict[str, Any]


class Tool(Arguments):
    """A tool; `description` is not looked at."""

    name: Text
    parameters: dict[str, Any]
    description: str = ""

    @model_validator(mode="after")
    def _has_schema(self) -> Tool:
        _check_schema(self.parameters)
        return self


class ToolCalls(Arguments):
    calls: Annotated[list[Call], Field(min_length=1)] | None = None
    tools: Annotated[list[Annotated[Tool, BeforeValidator(_unwrapped)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> ToolCalls:
        if self.calls is None and self.tools is None:
            raise ValueError("there are neither calls nor tools")
        return self
