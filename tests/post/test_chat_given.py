"""Chats of tokenizers with and without tokens for roles: the same ids as transformers gives for the exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.config.model import Model
from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.synthetic import conversation
from lehr.data.synthetic.conversations import FAMILIES, Message
from lehr.data.tokenizer import Tokenizer
from lehr.interop.hf_export import export_hf
from lehr.model.transformer import Transformer
from lehr.post.chat import chat_template, render
from tests.data.given import TEXTS, byte_level, save, trained_ranks, written

END = "<|endoftext|>"
# StarCoder's and so Granite's have such names, SentencePiece's the last two; the first is a role that is one token.
NAMES = ["<fim_prefix>", "<filename>", "<s>", "</s>", "[INST]", 'it\'s "quoted" \\ {{ x }}']
MANY = [f"<\uff5cplace\u2581holder\u2581{i}\uff5c>" for i in range(40)]  # DeepSeek's
OURS = Tokenizer.train(["\n\n".join(TEXTS)], 400)


def _given(kind: str, folder: Path) -> Tokenizer:
    if kind == "ours":
        return OURS
    if kind == "cl100k":
        tokens = trained_ranks("cl100k")
        path = str(written(tokens, folder / "x.tiktoken"))
        special_tokens = {END: len(tokens) + 1, "<|pad|>": len(tokens) + 8}
        return Tokenizer.given(Config(path=path, pattern="cl100k", special_tokens=special_tokens))
    names = {"gpt2": [END, *NAMES], "one role": [END, "<|user|>", *MANY], "other end": [END, "<|im_end|>", "<|system|>"]}[kind]
    end = {"eos_token": "<|im_end|>"} if kind == "other end" else {}
    return Tokenizer.given(Config(path=str(save(folder / "given", byte_level(names), **end))))


@pytest.fixture(scope="module", params=["ours", "gpt2", "cl100k", "one role", "other end"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """A tokenizer, and the one that transformers loads from the exported folder of a model with it."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("chat")
    ours = _given(request.param, folder)
    ours.save(folder)
    rows = ours.vocab_size
    config = Model(vocab_size=rows, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=16, max_seq_len=64)
    weights = {name: p.detach() for name, p in Transformer(config).named_parameters()}
    export_hf(weights, config, folder / "tokenizer.json", chat_template(ours, marked=True), folder / "out")
    return ours, AutoTokenizer.from_pretrained(folder / "out")


_PIECES = [
    *(END, "<|user|>", "<|user|>\n", "\n<|assistant|>\n", "<|system|>", "<|im_end|>", "<<|", "|>", "<|", "< |", "<\uff5c"),
    *(*NAMES, *MANY[:2], "<fim_", "s>", "<<s>s>", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\x1c", "\x85", "\u00a0", "\u2028"),
    *("a", "the", "it's", "'s", "5", "1234", "é", "e\u0301", "\u0301", "中", "🦊", "\ufeff", "?", "!\n", "...", "/"),
    *("{{ x }}", "{% y %}"),
]
_CONTENT = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))


@st.composite
def chats(draw: st.DrawFn) -> list[Message]:
    turns = [Message(("user", "assistant")[i % 2], draw(_CONTENT)) for i in range(draw(st.integers(1, 4)))]
    return [Message("system", draw(_CONTENT)), *turns] if draw(st.booleans()) else turns


@settings(max_examples=250, deadline=None)
@given(chats())
def test_transformers_gives_the_same_ids(pair: tuple[Tokenizer, Any], chat: list[Message]) -> None:
    ours, theirs = pair
    prompt = chat[-1].role == "user"
    ids, mask = render(chat, ours, prompt)
    assert ids == _applied(theirs, chat, prompt)
    asked = [Message("user", "")]
    opened = len(_applied(theirs, asked, True))
    answers = [_applied(theirs, [*asked, m], False)[opened:] for m in chat if m.role == "assistant"]
    assert [i for i, m in zip(ids, mask, strict=True) if m] == [i for answer in answers for i in answer]
    roles = [ours.role_id(role) for role in (*(m.role for m in chat), *(["assistant"] if prompt else []))]
    names = [i for i in ids if ours.token(i) in ours.special_names]
    assert [i for i in names if i != ours.eos_id] == [i for i in roles if i is not None]
    assert names.count(ours.eos_id) == len(answers)
    if not prompt:
        opening, _ = render(chat[:-1], ours, True)
        assert ids[: len(opening)] == opening and all(mask[len(opening) :])


def _applied(theirs: Any, chat: list[Message], prompt: bool) -> list[int]:
    rows = [m.row() for m in chat]
    ids: list[int] = theirs.apply_chat_template(rows, add_generation_prompt=prompt, return_dict=False)
    return ids


def test_the_exported_names_are_those_of_the_tokenizer(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id)
    assert (theirs.eos_token, theirs.bos_token) == (ours.token(ours.eos_id), None)
    for text in TEXTS[::2]:  # without names of tokens, which theirs would read
        assert theirs(text).input_ids == ours.encode(text)
    assert len(theirs.chat_template) < 2000
    broken = theirs.chat_template.count(" | replace(") - 1  # names of special tokens that are broken up beside all with `<|`
    assert (broken > 0) == any("<|" not in name for name in ours.special_names)


def rendered_before(messages: list[Message], prompt: bool) -> tuple[list[int], list[bool]]:
    """How version 0.1 rendered, for tokenizers whose roles are tokens: every content apart."""
    ids: list[int] = []
    mask: list[bool] = []
    header = {role: OURS.role_id(role) for role in ("system", "user", "assistant")}
    for message in messages:
        content = message.content.replace("<|", "< |").strip()
        answers = message.role == "assistant"
        tokens = OURS.encode("\n") if answers else OURS.encode(f"\n{content}\n")
        answer = [*OURS.encode(content), OURS.eos_id] if answers else []
        ids += [header[message.role] or 0, *tokens, *answer]
        mask += [False] * (1 + len(tokens)) + [True] * len(answer)
    tail = [header["assistant"] or 0, *OURS.encode("\n")] if prompt else []
    return ids + tail, mask + [False] * len(tail)


def test_our_own_ids_are_what_they_were() -> None:
    for family in FAMILIES:
        for i in range(50):
            example = conversation(family, "train", i, 3)
            assert render(example.messages, OURS, False) == rendered_before(example.messages, False)
            assert render(example.prompt, OURS, True) == rendered_before(example.prompt, True)
