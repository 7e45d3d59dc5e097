"""The pre-tokenizer that a GGUF file names: cut by llama.cpp's published expressions, our ids come out."""

from __future__ import annotations

import json
import random
import re
import string
import unicodedata
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from lehr.artifacts.artifact import Artifact, Cost
from lehr.cli.main import lehr
from lehr.config.model import Model
from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.tokenizer import Tokenizer
from lehr.interop.convert import export_to_gguf
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import save_checkpoint
from tests.data.given import TEXTS, byte_level, trained_ranks, written

SIGNS = [*" \t\n.,:;'\"(){}=+-_/#é中🦊²½४", "  ", "\n\n", "\n    ", "'s", "'ll", "a", "Word", "return", "7", "47", "1999"]


def category(wanted: str) -> str:
    """Those characters of our texts that are letters (L) or numbers (N): Python's own engine knows no `\\p{...}`."""
    known = {*"".join(SIGNS), *string.ascii_letters, *string.digits}
    return "".join(sorted(c for c in known if unicodedata.category(c)[0] == wanted))


L, N = category("L"), category("N")
# src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM and _GPT2.
GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[{N}]+| ?[^\s{L}{N}]+|\s+(?!\S)"
LLAMA_CPP = {"smollm": [rf"[{N}]", GPT2], "gpt-2": [GPT2]}


def llama_cpps_words(text: str, expressions: list[str]) -> list[str]:
    """llama.cpp's `unicode_regex_split`, by another engine than the library's: each expression cuts what the last one left,
    and what it does not match stays a word."""
    words = [text]
    for expression in expressions:
        cut = []
        for word in words:
            end = 0
            for match in re.finditer(expression, word):
                cut += [word[end : match.start()], match[0]]
                end = match.end()
            cut.append(word[end:])
        words = [word for word in cut if word]
    return words


def hard() -> list[str]:
    draw = random.Random(7)
    said = ["Question:\n\n12", "a  47", "c    1  2", "x = [\n        1,\n        22,\n]\n", "", " ", "1", " 1\n", "'ll 5's"]
    return said + ["".join(draw.choices(SIGNS, k=draw.randrange(1, 14))) for _ in range(3_000)]


def named(tokenizer: Tokenizer, folder: Path) -> str:
    """What the GGUF file of a model with this tokenizer says."""
    import gguf

    tokenizer.save(folder / "tokenizer")
    model = Transformer(Model(vocab_size=512, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=16, max_seq_len=32))
    weights = {n: p.detach() for n, p in model.named_parameters()}
    save_checkpoint(folder / "model", model.config, weights, folder / "tokenizer", chat=False)
    sealed = Artifact.seal(
        folder / "model", kind="checkpoint", stage="s", fingerprint="", parents=[], config={}, code="", meta={}, cost=Cost()
    )
    with torch.no_grad():
        export_to_gguf(sealed, folder / "m.gguf", "f32")
    return str(gguf.GGUFReader(folder / "m.gguf").fields["tokenizer.ggml.pre"].contents())


def given(folder: Path, pattern: str) -> Tokenizer:
    (folder / "tokenizer.json").write_text(byte_level(["<|endoftext|>"], pattern).to_str(), encoding="utf-8")
    return Tokenizer.given(Config(path=str(folder / "tokenizer.json")))


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_a_files_pre_tokenizer_gives_our_ids(name: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(TEXTS, 400) if name == "smollm" else given(tmp_path, "gpt2")
    assert named(tokenizer, tmp_path) == name
    uncut = json.loads((tmp_path / "tokenizer/tokenizer.json").read_text(encoding="utf-8"))
    uncut["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    of_word = Backend.from_str(json.dumps(uncut))
    for text in hard():
        theirs = [i for word in llama_cpps_words(text, LLAMA_CPP[name]) for i in of_word.encode(word).ids]
        assert tokenizer.encode(text) == theirs, repr(text)


def test_other_patterns_have_their_own_names_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    """cl100k's words are dbrx's, or llama-bpe's where a token is taken whole, without its merges; o200k's are nobody's."""
    (tmp_path / "a").mkdir()
    assert named(given(tmp_path, "cl100k"), tmp_path / "a") == "dbrx"
    ranks = written(trained_ranks("cl100k"), tmp_path / "ranks.tiktoken")
    config = Config(path=str(ranks), pattern="cl100k", special_tokens={"<|endoftext|>": 400})
    assert named(Tokenizer.given(config), tmp_path / "b") == "llama-bpe"
    with pytest.raises(UserError, match="no pre-tokenizer known to cut texts as this tokenizer does"):
        named(given(tmp_path, "o200k"), tmp_path / "c")
    assert not (tmp_path / "c/m.gguf").exists()


@pytest.mark.parametrize("composed", [True, False])
def test_a_tokenizer_that_composes_is_announced(composed: bool, tmp_path: Path) -> None:
    """OLMo 1's tokenizer composes characters (NFC); llama.cpp has no such step."""
    backend = byte_level(["<|endoftext|>"])
    if composed:
        backend.normalizer = normalizers.NFC()
    (tmp_path / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    named(Tokenizer.given(Config(path=str(tmp_path / "tokenizer.json"))), tmp_path)
    said = CliRunner().invoke(lehr, ["export", str(tmp_path / "model"), "--format", "gguf", "--out", str(tmp_path / "n.gguf")])
    assert said.exit_code == 0 and ("composes characters (NFC)" in said.output) == composed, said.output
