"""Files of tiktoken's ranks: the same ids, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.ranks import PATTERNS
from lehr.data.tokenizer import Tokenizer
from tests.data.given import BYTES, refused, trained_ranks, written

END = "<|endoftext|>"
# Joined from small ones: several pairs make one token, and ranks do not grow with length.
DENSE = [*BYTES, *dict.fromkeys("".join(t).encode() for n in (5, 2, 3) for t in product("ab ", repeat=n))]
_CLASSES = [
    *"ab'sd t're0 5\t\n\r\x0b\x85\xa0²½éß_-.,|<>’—\u2028\u200b\u0301Ж中٣🦊ſK/",
    "  ", " the", "'LL", "n't", "1234", "\r\n", "\n\n", "https://", END, "aab", "abab ab",
]  # fmt: skip


def ids_by_ranks(text: str, expression: str, ranks: dict[bytes, int]) -> list[int]:
    """tiktoken's algorithm, as it is told: whole words first, else always the leftmost pair of lowest rank."""
    ids = []
    for word, _ in pre_tokenizers.Split(Regex(expression), "isolated").pre_tokenize_str(text):
        parts = [bytes([b]) for b in word.encode()] if word.encode() not in ranks else [word.encode()]
        while True:
            pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tokenizer, str, dict[bytes, int]]]:
    folder, found = tmp_path_factory.mktemp("ranks"), {}
    for name, pattern, tokens in [*((p, p, trained_ranks(p)) for p in PATTERNS), ("dense", r"[ab ]+|[^ab ]", DENSE)]:
        path = str(written(tokens, folder / f"{name}.tiktoken"))
        config = Config(path=path, pattern=pattern, special_tokens={END: len(tokens) + 2, "<|pad|>": len(tokens)})
        ranks = {token: rank for rank, token in enumerate(tokens)}
        found[name] = (Tokenizer.given(config), PATTERNS.get(pattern, pattern), ranks)
    return found


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(_CLASSES)).map("".join), st.text(), st.text("ab ", max_size=30)))
def test_ids_are_those_of_the_rank_file(by_ranks: dict[str, tuple[Tokenizer, str, dict[bytes, int]]], text: str) -> None:
    for tokenizer, expression, ranks in by_ranks.values():
        ids = tokenizer.encode(text)
        assert ids == ids_by_ranks(text, expression, ranks)
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_batch([text])[0].tolist() == ids


# What tiktoken 0.14.0 gives for `GOLDEN` with its own patterns and the ranks of `golden_tokens`.
GOLDEN = "It's O'REILLY'S  12345 ½\u0663 e\u0301\u017f 'll\u017fX naïveTest/\n/ ...!\r\n\n  \t "
GOLDEN += "x\u00a0\u2028y\x85z \u4e2d\U0001f98a//\r\n   "


def golden_tokens() -> list[bytes]:
    """The bytes, and every run of two to six bytes of the text."""
    raw = GOLDEN.encode()
    return [*BYTES, *dict.fromkeys(raw[i : i + n] for n in range(2, 7) for i in range(len(raw)) if i + n <= len(raw))]


# fmt: off
WANTED = {
    "gpt2": [
        256, 258, 260, 39, 609, 39, 83, 32, 618, 537, 283, 285, 287, 289, 550, 467, 471, 387, 47, 10, 47, 569, 661, 318,
        320, 408, 121, 326, 122, 503, 682, 601,
    ],
    "cl100k": [
        256, 258, 260, 345, 436, 269, 32, 32, 356, 276, 32, 450, 283, 456, 289, 550, 467, 471, 387, 306, 47, 481, 485,
        401, 318, 320, 496, 412, 503, 507, 511, 426,
    ],
    "o200k": [
        427, 519, 611, 32, 32, 356, 276, 32, 450, 629, 289, 462, 88, 467, 383, 474, 390, 481, 485, 401, 318, 320, 496,
        412, 503, 507, 511, 426,
    ],
}
# fmt: on


@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_are_cut_as_tiktoken_cuts_them(pattern: str, tmp_path: Path) -> None:
    tokens = golden_tokens()
    path = str(written(tokens, tmp_path / "golden.tiktoken"))
    tokenizer = Tokenizer.given(Config(path=path, pattern=pattern, special_tokens={END: len(tokens)}))
    assert tokenizer.encode(GOLDEN) == WANTED[pattern]


def _line(number: int, replacement: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[: number - 1], replacement, *lines[number:]]


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (_line(5, b"!!!! 4"), ["x.tiktoken:5", "not base64"]),
        (_line(5, b"BA==4"), ["x.tiktoken:5", "not a token in base64, a space and its rank"]),
        (_line(5, b"\xff\xfe\x00 4"), ["x.tiktoken:5", "not base64"]),
        (_line(5, b"BA== -4"), ["x.tiktoken:5", "its rank"]),
        (_line(5, b"BA== 3"), ["x.tiktoken:5", "the same rank 3 as in line 4"]),
        (_line(5, b"Aw== 4"), ["x.tiktoken:5", "the same token as in line 4"]),
        (_line(5, b""), ["x.tiktoken:6", "rank 4 is missing", "name the rank in tokenizer.special_tokens"]),
        (_line(257, b"YWI= 999999999"), ["x.tiktoken:257", "rank 256 is missing"]),
        (_line(256, b"AAE= 255"), ["x.tiktoken", "byte 255 is not a token"]),
        (_line(257, b"YWFh" * 400 + b" 256"), ["x.tiktoken:257", "a token of 1200 bytes"]),
        (lambda lines: [], ["x.tiktoken", "byte 0 is not a token"]),
    ],
)
def test_damaged_ranks_are_named(damage: Callable[[list[bytes]], list[bytes]], parts: list[str], tmp_path: Path) -> None:
    path = written([*BYTES, b"ab"], tmp_path / "x.tiktoken")
    path.write_bytes(b"\n".join(damage(path.read_bytes().splitlines())))
    refused(Config(path=str(path), pattern="gpt2", special_tokens={END: 300}), *parts)


def test_ranks_with_other_settings(tmp_path: Path) -> None:
    path = str(written([*BYTES, b"ab", END.encode()], tmp_path / "x.tiktoken"))
    for pattern, said in (
        ("(", "'(' is not a valid pattern"),
        (r"\p{Elvish}", "is not a valid pattern"),
        (r"a|\p{N}{1,3}+", "contains '{1,3}+'"),
        (r"a|\s+$", "contains '$'"),
    ):
        refused(Config(path=path, pattern=pattern, special_tokens={END: 300}), "tokenizer.pattern", said)
    refused(Config(path=path, pattern="gpt2"), 'tokenizer.special_tokens: {"<|endoftext|>": 258}')
    refused(Config(path=path, pattern="gpt2", special_tokens={END: 256}), f"{path}:257", "which this line gives to a token")
    refused(Config(path=path, pattern="gpt2", special_tokens={END: 300}), "is also token 257 of the file")
    config = Config(path=str(written([*BYTES, b"ab"], tmp_path / "x.tiktoken")), pattern="gpt2", special_tokens={END: 260})
    assert (Tokenizer.given(config).vocab_size, Tokenizer.given(config).eos_id) == (261, 260)  # three ids stand unused
    refused(config.model_copy(update={"vocab_size": 300}), "tokenizer.vocab_size=300, but it has 261")


def test_a_special_token_may_stand_between_the_ranks(tmp_path: Path) -> None:
    """As in OpenAI's p50k_base."""
    path = written([*BYTES, b"ab", b"abc", b" abc"], tmp_path / "x.tiktoken")
    path.write_bytes(b"\n".join(line for line in path.read_bytes().splitlines() if not line.endswith(b" 256")))
    tokenizer = Tokenizer.given(Config(path=str(path), pattern="gpt2", special_tokens={END: 256}))
    assert (tokenizer.eos_id, tokenizer.vocab_size, tokenizer.special_names) == (256, 259, (END,))
    assert tokenizer.encode(f"abc abc{END}")[:2] == [257, 258] and 256 not in tokenizer.encode(END)
    refused(Config(path=str(path), pattern=".+", special_tokens={END: 256}), "a text can become its special token")
