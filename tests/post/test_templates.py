"""Chat templates: the text is transformers', special tokens are the template's own, the assistant's tokens are trained."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import chat_template, render, render_to_learn, turn_end_id
from lehr.post.jinja import compiled
from lehr.post.template_tokens import with_template
from lehr.post.templates import BUILT_IN, MARKERS
from lehr.runtime.errors import UserError
from tests.data.given import TEXTS
from tests.post.foreign_templates import FOREIGN

OURS = Tokenizer.train(["\n\n".join(TEXTS)], 400)
_SPEAK = ("system", "user", "assistant")
ROLES = {"tulu": _SPEAK, "zephyr": _SPEAK, "chatml": (*_SPEAK, "tool"), "granite": (*_SPEAK, "tool", "tool_response")}
KNOWN = {name: (text, MARKERS.get(name, ()), ROLES[name]) for name, text in BUILT_IN.items()} | FOREIGN
CALLS = {"granite": 3, "hermes": 3, "header": 1}  # calls of tools that a turn can have
TOOL = {"type": "function", "function": {"name": "get<|user|>", "description": "<b> & 'é'", "parameters": {"<|im_end|>": [1]}}}


@cache
def tokenizer(name: str) -> Tokenizer:
    return OURS.with_template(KNOWN[name][0], KNOWN[name][1])


@cache
def theirs(name: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    backend = Backend.from_str(tokenizer(name)._text)
    found = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    found.chat_template = chat_template(tokenizer(name), marked=True)
    return found


_PIECES = [
    *(
        "<|endoftext|>",
        "<|user|>",
        "<|assistant|>\n",
        "<|im_end|>",
        "<|im_start|>",
        "<|tool_call|>",
        "<|eot_id|>",
        "<end_of_turn>",
    ),
    *(
        "<|im_",
        "start|>",
        "<|",
        "|>",
        "<<|user|>|user|>",
        "<|endoftext<|endoftext|>|>",
        "\ue000",
        "\ue001",
        " ",
        "\n",
        "\n\n",
        "\t",
    ),
    *(
        "a",
        "the",
        "it's",
        "5",
        "1234",
        "é",
        "e\u0301",
        "中",
        "🦊",
        "{{ x }}",
        "{% y %}",
        "</s>",
        '"',
        "\\",
        "'",
        "&lt;",
        "</think>",
    ),
]
_CONTENT = st.one_of(st.text(max_size=12), st.lists(st.sampled_from(_PIECES), max_size=6).map("".join))
_ARGUMENTS = st.dictionaries(
    _CONTENT, st.one_of(_CONTENT, st.integers(), st.none(), st.lists(_CONTENT, max_size=2)), max_size=2
)


@st.composite
def chats(draw: st.DrawFn) -> tuple[str, list[Message], list[dict[str, Any]] | None]:
    name = draw(st.sampled_from(sorted(KNOWN)))
    roles, most = KNOWN[name][2], CALLS.get(name, 0)
    chat = [Message("system", draw(_CONTENT))] if "system" in roles and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        chat.append(Message("user", draw(_CONTENT)))
        while draw(st.booleans()) and most:
            calls = [{"name": draw(_CONTENT) or "f", "arguments": draw(_ARGUMENTS)} for _ in range(draw(st.integers(1, most)))]
            chat.append(Message("assistant", draw(st.one_of(st.just(""), _CONTENT)), tuple(calls)))
            chat.append(Message(draw(st.sampled_from([r for r in roles if r.startswith("tool")])), draw(_CONTENT), name="f"))
        chat.append(Message("assistant", draw(_CONTENT)))
    if draw(st.booleans()):
        chat.pop()
    tools = [TOOL] if name in CALLS and draw(st.booleans()) else None
    return name, chat, tools


def _applied(name: str, chat: list[Message], prompt: bool, tools: Any) -> str:
    text: str = theirs(name).apply_chat_template([m.row() for m in chat], tools, tokenize=False, add_generation_prompt=prompt)
    return text


def _said(name: str, ids: list[int]) -> str:
    return tokenizer(name).decode(ids, skip_special=False)


def _plain(chat: list[Message]) -> list[Message]:
    """The same turns in words that no template or token has, white space at their ends kept apart."""
    return [
        replace(
            m, content="xy" if m.content.strip() else "", tool_calls=tuple({"name": "f", "arguments": {}} for _ in m.tool_calls)
        )
        for m in chat
    ]


def _special(name: str, ids: list[int], mask: list[bool]) -> list[tuple[int, bool]]:
    """The special tokens, and which of them are trained."""
    known = set(tokenizer(name).special_ids.values())
    return [(i, learnt) for i, learnt in zip(ids, mask, strict=True) if i in known]


@settings(max_examples=250, deadline=None)
@given(chats())
def test_transformers_renders_the_same_text_and_contents_are_no_tokens(drawn: tuple[str, list[Message], Any]) -> None:
    name, chat, tools = drawn
    prompt = chat[-1].role != "assistant"
    ids, mask = render(chat, tokenizer(name), prompt, tools)
    text = _applied(name, chat, prompt, tools)
    assert _said(name, ids) == text
    plain_ids, plain_mask = render(_plain(chat), tokenizer(name), prompt, tools and [{**TOOL, "function": {"name": "t"}}])
    assert _special(name, ids, mask) == _special(name, plain_ids, plain_mask)


@settings(max_examples=150, deadline=None)
@given(chats())
def test_every_answer_is_trained_whole_and_continues_its_prompt(drawn: tuple[str, list[Message], Any]) -> None:
    name, chat, tools = drawn
    whole = chat if chat[-1].role == "assistant" else [*chat, Message("assistant", "so")]
    ids, mask = render_to_learn(whole, tokenizer(name), tools)
    turns = [i for i, m in enumerate(whole) if m.role == "assistant"]
    wanted = [0] * len(ids)
    for i in turns:  # each answer as it is sampled: after its prompt, up to the end of its turn
        prompt, _ = render(whole[:i], tokenizer(name), True, tools)
        cut, cut_mask = render(whole[: i + 1], tokenizer(name), False, tools)
        assert ids[: len(prompt)] == prompt and cut[: len(prompt)] == prompt
        answer = [t for t, learnt in zip(cut, cut_mask, strict=True) if learnt and len(prompt)][-sum(cut_mask[len(prompt) :]) :]
        assert ids[len(prompt) : len(prompt) + len(answer)] == answer
        assert answer[-1] == turn_end_id(tokenizer(name)) and turn_end_id(tokenizer(name)) not in answer[:-1]
        content = whole[i].content
        assert content.strip() in _said(name, answer) or (name == "hermes" and whole[i].tool_calls)
        wanted[len(prompt) : len(prompt) + len(answer)] = [1] * len(answer)
    assert [int(m) for m in mask] == wanted


def _turns(*roles: str) -> list[Message]:
    return [Message(role, f"said {i}") for i, role in enumerate(roles)]


def test_between_tokens_of_the_template_transformers_finds_the_same_ids() -> None:
    """Where contents stand between special tokens. Where one begins after a line end, ours is cut there, so that a prompt is a
    prefix of its conversation."""
    chat = [
        Message("system", "be  brief\n"),
        Message("user", "12 + 3?"),
        Message("assistant", " 15\n"),
        Message("user", "Sure"),
    ]
    rows = [m.row() for m in chat]
    said = theirs("granite").apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    assert render(chat, tokenizer("granite"), True)[0] == said
    marked = theirs("granite").apply_chat_template(rows[:3], return_dict=True, return_assistant_tokens_mask=True)
    assert render(chat[:3], tokenizer("granite"), False)[1] == [bool(m) for m in marked["assistant_masks"]]


REFUSED = [
    ("chatml", ["robot"], "no role 'robot'"),
    ("chatml", ["available_tools", "user"], "no role 'available_tools'"),
    ("granite", ["system", "system", "user"], "cannot have the turns"),
    ("granite", ["user", "available_tools", "user"], "cannot have the turns"),
    ("zephyr", ["system"], "cannot have the turns"),
    ("tulu", [], "cannot have the turns"),
    ("tulu", ["user", "user"], "cannot have the turns"),
    ("tulu", ["assistant"], "cannot have the turns"),
    ("tulu", ["user", "assistant", "tool"], "drops turn 3, the tool's"),
    ("inst", ["system", "user"], "Only user and assistant roles"),
]


@pytest.mark.parametrize(("name", "roles", "said"), REFUSED)
def test_turns_that_a_template_does_not_take_are_refused(name: str, roles: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        render(_turns(*roles), tokenizer(name), roles[-1:] != ["assistant"])
    assert "\n" not in str(caught.value)


def test_nothing_is_dropped_and_nothing_is_learnt_of_nothing() -> None:
    called = [Message("user", "a"), Message("assistant", "", ({"name": "f", "arguments": {}},)), Message("tool", "1")]
    for name, said in (("chatml", "drops the tool calls of turn 2"), ("inst", "no role|Only user|drops")):
        with pytest.raises(UserError, match=said):
            render(called, tokenizer(name), True)
    for name in ("tulu", "chatml"):
        with pytest.raises(UserError, match="no place for tools"):
            render(_turns("user"), tokenizer(name), True, [TOOL])
    for tools, chat in (([TOOL], _turns("user")), (None, called)):
        with pytest.raises(UserError, match="lehr has no place for tools"):
            render(chat, OURS, True, tools)
    for known in (OURS, tokenizer("granite")):
        with pytest.raises(UserError, match="no turn of the assistant"):
            render_to_learn(_turns("user"), known)
        with pytest.raises(UserError, match="nothing to answer"):
            render(_turns("user", "assistant"), known, True)
    with pytest.raises(UserError, match="only the assistant calls tools"):
        render([Message("user", "a", called[1].tool_calls)], tokenizer("granite"), True)


BODY = "{% for m in messages %}<|user|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
WRONG = {
    "{% for m in messages %}": "is no Jinja, line 1",
    "{{ messages | nothing }}": "is no Jinja",
    "{{ messages[9]['content'] }}": "refuses these messages",
    "{{ raise_exception('never\nthis') }}": "never this",
    "{{ ''.__class__.__mro__ }}": "unsafe",
    "{% set x = messages.append(1) %}": "unsafe",
    "{{ messages[-1]['content'] }}": "drops turn 1, the user's",
    BODY + "{{ messages | length }}": "turn 2 is not what follows its prompt",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "steps",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}": "recursion",
    "{{ 'ab' * 999999999 }}": "characters",
    "{{ 3 ** 999999999 }}": "as long",
    "{{ 'a'.ljust(999999999) }}": "as long",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}": "characters",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}": "characters",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}": "characters",
    "{% for i in range(9999) %}{% for j in range(99) %}{{ '%0999d' % 1 }}{% endfor %}{% endfor %}": "characters|steps",
}


@pytest.mark.parametrize(("text", "said"), WRONG.items())
def test_a_wrong_or_hostile_template_is_one_message(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        render(_turns("user", "assistant"), OURS.with_template(text), False)
    assert "\n" not in str(caught.value)


def test_a_name_that_a_template_works_on_is_refused_and_an_ordinary_text_is_not() -> None:
    """A template that cuts thoughts off at a token: which of two tokens is the template's could not be told."""
    text = BODY.replace("m['content']", "m['content'].split('<|assistant|>')[-1]")
    known = OURS.with_template(text)
    assert render(_turns("user", "assistant"), known, False)[1][-1]
    with pytest.raises(UserError, match="holds the name of a special token"):
        render([Message("user", "a<|assistant|>b"), Message("assistant", "c")], known, False)


def test_a_message_is_its_row() -> None:
    called = Message("assistant", "", ({"name": "f", "arguments": {"a": [1, None]}},), "me")
    for message in (Message("user", "hi"), called):
        assert Message.of(json.loads(json.dumps(message.row()))) == message
    assert Message("user", "hi").row() == {"role": "user", "content": "hi"}
    assert repr(Message("user", "hi")) == "Message(role='user', content='hi')" and "arguments" in repr(called)
    for wrong in ("x", [], {}, {"role": "user"}, {**called.row(), "tool_calls": [{"function": "ab"}]}):
        with pytest.raises((KeyError, TypeError)):
            Message.of(wrong)  # type: ignore[arg-type]


def test_the_end_of_a_turn_is_the_templates() -> None:
    ends = {name: tokenizer(name).token(turn_end_id(tokenizer(name))) for name in KNOWN}
    other = {"chatml": "<|im_end|>", "hermes": "<|im_end|>", "header": "<|eot_id|>", "model": "<end_of_turn>"}
    assert ends == dict.fromkeys(KNOWN, "<|endoftext|>") | other
    assert turn_end_id(OURS) == OURS.eos_id
    # Templates that cannot be trained on are still sampled from and exported: one that adds to its prompts, one that refuses.
    thinks = KNOWN["chatml"][0].replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")
    thinking = OURS.with_template(thinks, MARKERS["chatml"])
    assert thinking.token(turn_end_id(thinking)) == "<|im_end|>" and render(_turns("user"), thinking, True)
    with pytest.raises(UserError, match="turn 2 is not what follows its prompt"):
        render(_turns("user", "assistant"), thinking, False)
    assert turn_end_id(OURS.with_template("{{ raise_exception('no') }}")) == OURS.eos_id
    with pytest.raises(UserError, match="turn 2 is not what follows"):
        with_template(OURS, thinks)
    assert "- generation -" not in chat_template(tokenizer("granite"), marked=False)
    compiled(chat_template(tokenizer("tagged"), marked=False))
