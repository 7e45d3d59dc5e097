"""Tokenizers as others make them, small: a byte-level BPE with GPT-2's pattern, and a file of tiktoken ranks."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.ranks import PATTERNS, byte_characters
from lehr.data.tokenizer import Tokenizer
from lehr.runtime.errors import UserError

BYTES = [bytes([b]) for b in range(256)]

TEXTS = [
    "the quick brown fox jumps over the lazy dog; it's 12,345 miles?\n\nNo! I'll don't we've\r\n" * 5,
    "def f(x):\n    return {x: 'a'}  # <|user|>\n<|assistant|>\n<|system|>\nWhat is 47 + 38?\n" * 5,
    "Ünïcödé naïve façade e\u0301 中文中文 한국어 🦊🦊   \t\t  \n\n\n" * 5,
]


def byte_level(specials: Sequence[str], pattern: str = "gpt2", size: int = 400) -> Backend:
    """A BPE with these special tokens after its vocabulary, as GPT-2, OLMo and Granite have theirs."""
    backend = Backend(models.BPE())
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated"), bytes_of])
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    backend.add_special_tokens(list(specials))
    return backend


def save(folder: Path, backend: Backend, /, **config: Any) -> Path:
    """`tokenizer.json` in `folder`, and `tokenizer_config.json` with `config` if there is any."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def trained_ranks(pattern: str) -> list[bytes]:
    """Tokens in order of rank, of a BPE trained on words cut by `pattern`."""
    values = {character: b for b, character in enumerate(byte_characters())}
    vocab = byte_level([], pattern).get_vocab()
    return [bytes(values[c] for c in token) for token in sorted(vocab, key=lambda token: vocab[token])]


def written(tokens: Iterable[bytes], path: Path) -> Path:
    """A file of ranks."""
    path.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens)))
    return path


def refused(config: Config, *parts: str) -> None:
    """A refusal of one line with these parts."""
    with pytest.raises(UserError) as caught:
        Tokenizer.given(config)
    text = str(caught.value)
    assert all(part in text for part in parts) and "\n" not in text, text
