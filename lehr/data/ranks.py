"""tiktoken's rank files as Hugging Face tokenizers: the same ids for every text.

A rank file has one line for each token: its bytes in base64, a space, its rank, which is its id. tiktoken splits a text into
words with a regular expression; a word that is a token becomes that token; in any other word it repeatedly merges the adjacent
pair whose concatenation is the token of lowest rank. A list of merges is equivalent if it holds every pair of tokens that
concatenates to a token, ordered by the rank of the result.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from tokenizers import Regex

from lehr.data.special_tokens import APART
from lehr.runtime.errors import UserError

# tiktoken's expressions (openai_public.py), rewritten for the tokenizers library's engine (Oniguruma), in which `$` matches at
# the end of a line and `{1,3}+` repeats instead of being possessive.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_IN_CLASS = re.compile(r"\\p\{\w+\}|\\.|\[(?:\\.|[^\]])*\]", re.DOTALL)  # parts that cannot be an anchor or a quantifier
_READS_OTHERWISE = re.compile(r"\{\d*,?\d*\}\+|[$^]")
_LONGEST = 1024  # bytes of a token; the longest in tiktoken's own files has 128
_REMEDY = "fetch the file again"


def byte_characters() -> list[str]:
    """The character that represents each byte in `tokenizer.json`, as in GPT-2: printable ASCII and Latin-1 are themselves."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    other = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(other)) for b in range(256)]


def tokenizer_json(path: Path, pattern: str, special_tokens: dict[str, int]) -> dict[str, Any]:
    """The content of a `tokenizer.json` that yields tiktoken's ids with these ranks, pattern and special tokens.

    Unnamed ids between special ones become special tokens <|unused_ID|>. Raises UserError for a damaged file, an invalid
    pattern, and special tokens that do not fit the ranks.
    """
    expression = _expression(pattern)
    tokens = _in_order(_read(path), path, special_tokens)
    characters = byte_characters()
    ids = {token: i for i, token in enumerate(tokens) if token is not None}
    written = {token: "".join(characters[b] for b in token) for token in ids}
    vocab = {written[token]: i for token, i in ids.items()}
    for name in special_tokens:
        if name in vocab:
            what = f"tokenizer.special_tokens: {name!r} is also token {vocab[name]} of the file, which a text can produce"
            raise UserError(what, where=path, remedy="give it another name")
    # Special tokens between the ranks go into the vocabulary too: the library numbers other added tokens from its end on.
    vocab |= {name: i for name, i in special_tokens.items() if i < len(tokens)}
    names = {i: name for name, i in special_tokens.items()}
    beyond = range(len(tokens), max(names, default=0) + 1)
    added = {i: names.get(i, f"<|unused_{i}|>") for i in (*(i for i in sorted(names) if i < len(tokens)), *beyond)}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **APART} for i, name in added.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, bytes_of]},
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # as tiktoken does: a word that is a token becomes it, even if no merges lead there
            "vocab": vocab,
            "merges": [[written[left], written[right]] for left, right in merges(ids)],
        },
    }


def merges(ids: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that concatenates to a token, ordered by the rank of the result, then by the ranks of both."""
    found = []
    for token in sorted(ids, key=ids.__getitem__):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
        found += sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return found


def _read(path: Path) -> dict[bytes, tuple[int, int]]:
    """Token -> (rank, line number). Raises UserError naming a damaged line."""
    found: dict[bytes, tuple[int, int]] = {}
    lines: dict[int, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        token, rank = _parsed(line, where)
        if not 0 < len(token) <= _LONGEST:
            raise UserError(f"a token of {len(token)} bytes; 1 to {_LONGEST} are possible", where=where, remedy=_REMEDY)
        if token in found or rank in lines:
            what, first = ("token", found[token][1]) if token in found else (f"rank {rank}", lines[rank])
            raise UserError(f"the same {what} as in line {first}", where=where, remedy=_REMEDY)
        found[token], lines[rank] = (rank, number), number
    return found


def _parsed(line: bytes, where: str) -> tuple[bytes, int]:
    parts = line.split()
    if len(parts) != 2 or not parts[1].isdigit() or len(parts[1]) > 9:
        raise UserError("not a token in base64, a space and its rank", where=where, remedy=_REMEDY)
    try:
        return base64.b64decode(parts[0], validate=True), int(parts[1])
    except binascii.Error as error:
        raise UserError(f"not base64 ({error})", where=where, remedy=_REMEDY) from None


def _in_order(read: dict[bytes, tuple[int, int]], path: Path, special_tokens: dict[str, int]) -> list[bytes | None]:
    """Tokens by id, None for special tokens. Raises UserError if an id has no token, or if a byte is not a token."""
    by_rank = {rank: (token, line) for token, (rank, line) in read.items()}
    taken = {i: name for name, i in special_tokens.items()}
    tokens: list[bytes | None] = []
    for rank in sorted(by_rank):
        while len(tokens) < rank:
            if len(tokens) not in taken:
                what = f"rank {len(tokens)} is missing: the next one is {rank}"
                remedy = f"{_REMEDY}, or name the rank in tokenizer.special_tokens"
                raise UserError(what, where=f"{path}:{by_rank[rank][1]}", remedy=remedy)
            tokens.append(None)
        if rank in taken:
            what = f"tokenizer.special_tokens: {taken[rank]!r} has id {rank}, which this line gives to a token"
            raise UserError(what, where=f"{path}:{by_rank[rank][1]}", remedy="give it another id")
        tokens.append(by_rank[rank][0])
    missing = next((b for b in range(256) if bytes([b]) not in read), None)
    if missing is not None:
        raise UserError(f"byte {missing} is not a token, so some texts have no ids", where=path, remedy=_REMEDY)
    return tokens


def _expression(pattern: str) -> str:
    """`pattern` for the library's engine. Raises UserError if it is invalid, or has another meaning there than in tiktoken."""
    expression = PATTERNS.get(pattern, pattern)
    where = "tokenizer.pattern"
    try:
        Regex(expression)
    except Exception as error:  # noqa: BLE001 (the library raises bare Exceptions)
        remedy = "correct it, or take one of gpt2, cl100k, o200k"
        raise UserError(f"{pattern!r} is not a valid pattern ({error})", where=where, remedy=remedy) from None
    if other := _READS_OTHERWISE.search(_IN_CLASS.sub("", expression)):
        what = f"{pattern!r} contains {other[0]!r}, which means something else here than in tiktoken"
        raise UserError(what, where=where, remedy="write it differently, or take one of gpt2, cl100k, o200k")
    return expression
