"""Which of llama.cpp's pre-tokenizers cuts texts into the words of a tokenizer: found by trying, never by a likely name."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Backend

from lehr.runtime.errors import UserError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_CASES = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+"
_ENDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# llama.cpp's names, the expressions that it cuts with in turn, and whether a word that is a token is taken whole, without its
# merges (src/llama-vocab.cpp). The first that fits is written.
PUBLISHED: dict[str, tuple[tuple[str, ...], bool]] = {
    "smollm": ((r"\p{N}", _GPT2), False),
    "gpt-2": ((_GPT2,), False),
    "qwen2": ((rf"{_CASES}|\p{{N}}|{_ENDS}",), False),
    "dbrx": ((rf"{_CASES}|\p{{N}}{{1,3}}|{_ENDS}",), False),
    "llama-bpe": ((rf"{_CASES}|\p{{N}}{{1,3}}|{_ENDS}",), True),
}
_PARTS = (
    *" \t\n\r\f\u00a0\u3000aBß中अ\u0301é0479²½Ⅷ४.,'\"-_/#{}\\|€🦊",
    *("  ", "\n\n", "\r\n", "'s", "'LL", "'re", "don't", "I'M", "12", "345", "67890", "\n    ", ")\n", "://", "\u200d"),
)


@cache
def hard_texts(seed: int = 0) -> tuple[str, ...]:
    """Texts in which white space, digits, punctuation and letters of several scripts meet in every order; always the same of
    one seed."""
    draw = random.Random(seed)
    said = ("Question:\n\n12", "a  47", "c    1  2", "\n    3 = x\n", "  ", "\n", " 1", "x\t\t9 ", "def f(x):\n    return 10\n")
    return (*said, *("".join(draw.choices(_PARTS, k=draw.randrange(2, 12))) for _ in range(2_000)))


def pre_tokenizer_name(path: Path) -> str:
    """llama.cpp's name for the pre-tokenizer of the `tokenizer.json` at `path`. Raises UserError if none of those that we know
    cuts every hard text as it does."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    ours = Backend.from_str(json.dumps(spec, ensure_ascii=False)).pre_tokenizer
    whole = bool(spec["model"].get("ignore_merges"))
    if ours is not None:
        wanted = [_pieces(ours, text) for text in hard_texts()]
        for name in sorted(PUBLISHED, key=lambda name: PUBLISHED[name][1] != whole):  # stable: ours first, then the other kind
            expressions, takes_whole = PUBLISHED[name]
            theirs = as_published(expressions)
            same = all(_pieces(theirs, t) == w for t, w in zip(hard_texts(), wanted, strict=True))
            if same and (takes_whole == whole or _merges_lead_to_all(spec, ours)):
                return name
    raise UserError(
        "llama.cpp has no pre-tokenizer known to cut texts as this tokenizer does, so its ids would differ",
        where=path,
        remedy="export with --format hf, and convert that with llama.cpp's own converter",
    )


def composes(path: Path) -> bool:
    """Whether the tokenizer of the `tokenizer.json` at `path` composes characters (NFC), which llama.cpp does not."""
    return bool(json.loads(path.read_text(encoding="utf-8")).get("normalizer") == {"type": "NFC"})


def as_published(expressions: tuple[str, ...]) -> pre_tokenizers.PreTokenizer:
    """llama.cpp's cutting: each expression in turn cuts the pieces of the one before, and what it leaves stays a piece."""
    cuts = [pre_tokenizers.Split(Regex(e), "isolated") for e in expressions]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _pieces(pre_tokenizer: pre_tokenizers.PreTokenizer, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]


def _merges_lead_to_all(spec: dict[str, Any], ours: pre_tokenizers.PreTokenizer) -> bool:
    """Whether every token that is a whole word is also what its merges lead to: then it is one whether merges are done."""
    merging = Backend.from_str(json.dumps({**spec, "model": {**spec["model"], "ignore_merges": False}}, ensure_ascii=False))
    special = {token["content"] for token in spec["added_tokens"]}
    for token, i in spec["model"]["vocab"].items():
        text = merging.decode([i], skip_special_tokens=False)
        if token in special or _pieces(ours, text) != [token]:  # no word of any text
            continue
        if merging.encode(text, add_special_tokens=False).ids != [i]:
            return False
    return True
