"""Tokenizers that exist already: Hugging Face's files, and what is refused of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.tokenizer import Tokenizer
from lehr.data.words import Words, pre_tokenizer
from tests.data.given import BYTES, TEXTS, byte_level, refused, save, written

END = "<|endoftext|>"


@pytest.mark.parametrize("form", ["file", "folder", "ranks"])
def test_what_was_read_is_saved_whole(form: str, tmp_path: Path) -> None:
    if form == "ranks":
        path = str(written([*BYTES, b"ab"], tmp_path / "x.tiktoken"))
        config = Config(path=path, pattern="o200k", special_tokens={"<stop>": 700}, eos="<stop>")
    else:
        save(tmp_path / "given", byte_level(["<start>", END, "<stop>"]), eos_token={"content": "<stop>"}, bos_token="<start>")
        config = Config(path=str(tmp_path / "given" / ("tokenizer.json" if form == "file" else "")))
    tokenizer = Tokenizer.given(config)
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.token(again.eos_id) == "<stop>" and again.pad_id == again.eos_id
    assert (again.hash, again.eos_id, again.vocab_size) == (tokenizer.hash, tokenizer.eos_id, tokenizer.vocab_size)
    for text in (*TEXTS, "".join(tokenizer.special_names)):
        assert again.encode(text) == tokenizer.encode(text) and again.decode(again.encode(text)) == text
        assert again.eos_id not in again.encode(text)


@pytest.mark.parametrize(
    ("beside", "eos", "expected"),
    [
        ({}, "", END),  # by its name
        ({"tokenizer_config.json": {"eos_token": None}}, "", END),
        ({"tokenizer_config.json": {"eos_token": "<stop>"}}, "", "<stop>"),
        ({"special_tokens_map.json": {"eos_token": {"content": "<stop>"}}}, "", "<stop>"),
        ({"config.json": {"eos_token_id": [401, 400]}}, "", "<stop>"),
        ({"tokenizer_config.json": {"eos_token": END}, "config.json": {"eos_token_id": 401}}, "", END),
        ({"tokenizer_config.json": {"eos_token": END}}, "<stop>", "<stop>"),
    ],
)
def test_which_token_ends_a_text(beside: dict[str, Any], eos: str, expected: str, tmp_path: Path) -> None:
    save(tmp_path, byte_level([END, "<stop>"]))
    for name, content in beside.items():
        (tmp_path / name).write_text(json.dumps(content))
    tokenizer = Tokenizer.given(Config(path=str(tmp_path), eos=eos))
    assert tokenizer.token(tokenizer.eos_id) == expected


def test_an_end_of_text_that_cannot_be(tmp_path: Path) -> None:
    save(tmp_path, byte_level(["<stop>"]), eos_token="<end>")
    refused(Config(path=str(tmp_path)), "tokenizer_config.json", "has no token '<end>'", "tokenizer.eos")
    refused(Config(path=str(tmp_path), eos="<bye>"), "tokenizer.eos: the tokenizer has no token '<bye>'")
    refused(Config(path=str(tmp_path), eos="the"), "a text can become its special token 'the'")
    (tmp_path / "tokenizer_config.json").write_text("{")
    refused(Config(path=str(tmp_path)), "tokenizer_config.json:1", "not JSON")
    (tmp_path / "tokenizer_config.json").unlink()
    refused(Config(path=str(tmp_path)), "it has none of ('<|endoftext|>'", "tokenizer.eos")


def test_nothing_is_added_to_a_text_nor_cut_off(tmp_path: Path) -> None:
    theirs = byte_level([END, "<start>"])
    theirs.post_processor = processors.TemplateProcessing("<start> $A", "<start> $A $B", [("<start>", 401)])
    theirs.enable_truncation(4)
    theirs.enable_padding(length=16)
    theirs.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])
    plain = Tokenizer(byte_level([END, "<start>"]))
    for path in (save(tmp_path / "a", theirs), save(tmp_path / "b", theirs) / "tokenizer.json"):
        for tokenizer in (Tokenizer.given(Config(path=str(path))), Tokenizer.load(path if path.is_dir() else path.parent)):
            for text in (*TEXTS, " a <mask> b"):
                assert tokenizer.encode(text) == plain.encode(text) == tokenizer.encode_batch([text])[0].tolist()
        assert tokenizer.decode(tokenizer.encode("<mask>")) == "<mask>"


def test_an_ordinary_added_token_is_found_across_words() -> None:
    """Granite's files have our pre-tokenizer, and encoding by words would miss it."""
    theirs = byte_level([END])
    theirs.pre_tokenizer = pre_tokenizer()
    assert Words.serve(theirs) or not Words.serve(Tokenizer.train(TEXTS, 320)._backend)
    theirs.add_tokens(["<file name>"])
    tokenizer = Tokenizer(theirs)
    assert 401 in tokenizer.encode("a <file name> b")
    assert np.array_equal(tokenizer.encode_batch(["a <file name> b"])[0], tokenizer.encode("a <file name> b"))


def _lower() -> Backend:
    theirs = byte_level([END])
    theirs.normalizer = normalizers.Lowercase()
    return theirs


def _words() -> Backend:
    theirs = Backend(models.WordPiece({"[UNK]": 0, END: 1}, unk_token="[UNK]"))
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.add_special_tokens([END])
    return theirs


def _prefixed() -> Backend:
    theirs = byte_level([END])
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return theirs


def _suffixed() -> Backend:
    """CLIP's form. Damaged, such a file would end the process."""
    return Backend(models.BPE({"a": 0, "b</w>": 1, "ab</w>": 2}, [("a", "b</w>")], end_of_word_suffix="</w>"))


def _greedy() -> Backend:
    theirs = byte_level([END])
    theirs.add_tokens([AddedToken("<tab>", lstrip=True)])
    return theirs


@pytest.mark.parametrize(
    ("theirs", "part"),
    [
        (_lower, "it has a normalizer: Lowercase"),
        (_words, "a WordPiece model"),
        (_prefixed, "comes back as ' Ab Ünïcödé'"),
        (_suffixed, "marked as parts of words"),
        (_greedy, "<tab>"),
    ],
)
def test_a_tokenizer_that_loses_something_is_refused(theirs: Callable[[], Backend], part: str, tmp_path: Path) -> None:
    refused(Config(path=str(save(tmp_path, theirs()))), "tokenizer.json: ", "it loses something of texts", part)


def test_composing_characters_is_no_loss(tmp_path: Path) -> None:
    """GPT-NeoX's and OLMo 1's tokenizer does."""
    theirs = byte_level([END])
    theirs.normalizer = normalizers.NFC()
    tokenizer = Tokenizer.given(Config(path=str(save(tmp_path, theirs))))
    assert tokenizer.decode(tokenizer.encode("cafe\u0301 x")) == "caf\u00e9 x"


def test_files_that_are_no_tokenizers(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    refused(Config(path=str(tmp_path)), "tokenizer.json: no tokenizer here")
    refused(Config(path="s3://bucket/tokenizer.json"), "s3://bucket/tokenizer.json", "from a disk")
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    refused(Config(path=str(tmp_path / "tokenizer.model")), "neither .json nor .tiktoken")
    for content, parts in (
        (b"{}", ["not a tokenizer file"]),
        (b"", ["tokenizer.json:1: not JSON"]),
        (b"[]", ["not a JSON object"]),
        (b'{\n"a": "\xff"}', ["tokenizer.json:2", "not UTF-8"]),
        (byte_level([END]).to_str().encode()[:-200], ["tokenizer.json:", "not JSON"]),
        (byte_level([END]).to_str().replace('"merges":[', '"merges":[["no", "pe"],').encode(), ["not a tokenizer file"]),
    ):
        path.write_bytes(content)
        refused(Config(path=str(path)), *parts)
    with path.open("wb") as file:
        file.truncate(300 << 20)
    refused(Config(path=str(path)), "more than 256 MiB")
