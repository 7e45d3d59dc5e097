"""Tokenizer, shards, mixes and batches."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

from lehr.config.mix import Mix
from lehr.data.document import Document
from lehr.data.loader import Loader
from lehr.data.mix import MixPlan, plan
from lehr.data.repeats import repeats
from lehr.data.shards import ShardSet
from lehr.data.special_tokens import SPECIALS
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.files import read_listing, verify_body
from lehr.data.tokens.writing import write_shards
from lehr.data.words import Words
from lehr.runtime.errors import UserError
from lehr.runtime.seeds import permute, unpermute

TEXTS = [
    "the quick brown fox jumps over the lazy dog " * 20,
    "numbers 12 345 6789 and the like " * 20,
    "Ünïcödé naïve façade " * 10,
]
TOKENIZER = Tokenizer.train(TEXTS, 320)


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


_CLASSES = [
    *"ab'sd t're0 5\t\n\r\x0b\x1c\x85\xa0²½éß_-.,|<>‘’—…\u2003\u2028\u200b\u0301Ж中٣🦊",
    " ",
    "  ",
    " the",
    "'ll",
    "n't",
]

# Merges of everything with everything, so that a piece cut elsewhere gives other ids.
_MERGING = Tokenizer.train(["".join(random.Random(i).choices(_CLASSES, k=40)) for i in range(400)], 2000)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(st.sampled_from(_CLASSES)).map("".join), max_size=3))
def test_encoding_by_words_equals_the_librarys(texts: list[str]) -> None:
    words = Words(_MERGING._backend, np.dtype("<u2"))
    for _ in range(2):  # new words, then known ones
        assert [ids.tolist() for ids in words.encode(texts)] == [_MERGING.encode(t) for t in texts]


def test_encoding_by_words_serves_our_tokenizers_alone() -> None:
    assert Words.serve(TOKENIZER._backend) == ((os.cpu_count() or 1) < 8)
    other = Backend.from_str(TOKENIZER._backend.to_str())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert not Words.serve(other)


def test_no_text_becomes_a_special_token() -> None:
    text = "".join(SPECIALS)
    ids = TOKENIZER.encode(text)
    assert min(ids) >= len(SPECIALS)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.decode([TOKENIZER.eos_id, *TOKENIZER.encode("a")]) == "a"


def test_digits_stand_alone_and_training_repeats(tmp_path: Path) -> None:
    assert len(TOKENIZER.encode("12345")) == 5
    assert Tokenizer.train(TEXTS, 320).hash == TOKENIZER.hash
    TOKENIZER.save(tmp_path)
    assert Tokenizer.load(tmp_path).hash == TOKENIZER.hash
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        Tokenizer.load(tmp_path)


def _shard(folder: Path, name: str, documents: int, words: int) -> ShardSet:
    texts = [Document(f"{name}-{i}", name, f"{name} {i} " + "fox dog " * words) for i in range(documents)]
    write_shards(texts, name, TOKENIZER, folder)
    return ShardSet.open(folder, name, TOKENIZER.hash)


def test_a_shard_says_what_it_is_and_refuses_damage(tmp_path: Path) -> None:
    shard = _shard(tmp_path, "web", 5, 10)
    path = tmp_path / "web-00000.tokens"
    span = shard.documents[3]
    assert span.id == "web-3" and TOKENIZER.decode(shard.tokens[span.first : span.end].tolist()).startswith("web 3 ")
    assert (shard.tokens[:] == TOKENIZER.eos_id).sum() == 5
    assert shard.documents.at(span.first) == 3 and shard.documents.at(span.first - 1) == 2
    with pytest.raises(UserError, match="another tokenizer"):
        ShardSet.open(tmp_path, "web", "0" * 64)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(UserError, match="truncated or grown"):
        ShardSet.open(tmp_path, "web", TOKENIZER.hash)
    path.write_bytes(whole[:-2] + b"\x09\x09")
    with pytest.raises(UserError, match="shard altered"):
        verify_body(path, read_listing(tmp_path, "web").shards[0])
    path.write_bytes(b"not a shard at all, whatever")
    with pytest.raises(UserError, match="not a token shard"):
        ShardSet.open(tmp_path, "web", TOKENIZER.hash)


def test_spans_must_make_up_the_body(tmp_path: Path) -> None:
    shard = _shard(tmp_path, "web", 5, 10)
    path, spans = tmp_path / "web-00000.tokens", tmp_path / "web-00000.spans"
    assert [span.id for span in shard.documents] == [f"web-{i}" for i in range(5)]
    assert [shard.documents.find(d) for d in ("web-0", "web-4", "web-", "eb-1", "")] == [[0], [4], [], [], []]
    whole = spans.read_bytes()
    start = shard.documents[3].first.to_bytes(8, "little")
    later = (shard.documents[3].first + 1).to_bytes(8, "little")
    fewer = (4).to_bytes(8, "little") + whole[16:48] + whole[56:88] + whole[96:-6]  # the last document's span is gone
    for raw, says in (
        (whole[:-4], "damaged document spans"),
        (whole + b"more", "damaged document spans"),
        (whole.replace(start, later), "do not fit"),  # ends one token beyond the end of a document
        (whole[:8] + fewer, "do not fit"),
        (b"", "damaged document spans"),
    ):
        spans.write_bytes(raw)
        with pytest.raises(UserError, match=says):
            ShardSet.open(tmp_path, "web", TOKENIZER.hash)
    spans.unlink()
    with pytest.raises(UserError, match="no such document spans"):
        ShardSet.open(tmp_path, "web", TOKENIZER.hash)
    spans.write_bytes(whole)
    body = path.read_bytes()
    for damage in ((b'"dtype"', b'"dtypo"'), (b'"<u2"', b'"<u4"')):
        path.write_bytes(body.replace(*damage))
        with pytest.raises(UserError, match="damaged shard header"):
            ShardSet.open(tmp_path, "web", TOKENIZER.hash)


def _plan(folder: Path, instances: int) -> MixPlan:
    sets = {"a": _shard(folder, "a", 30, 30), "b": _shard(folder, "b", 10, 30)}
    return plan(Mix(weights={"a": 2.0, "b": 1.0}, max_epochs=9.0), sets, instances, 16)


def test_weights_become_exact_counts_and_epochs_are_capped(tmp_path: Path) -> None:
    resolved = _plan(tmp_path, 100)
    assert [p.instances for p in resolved.parts] == [67, 33]
    head, *branches = resolved.tree().splitlines()
    assert head == "mix: 1,600 tokens"  # 100 windows of 16
    assert [(line.split()[:4]) for line in branches] == [["├─", "a", "67.0%", "1,072"], ["└─", "b", "33.0%", "528"]]
    with pytest.raises(UserError, match=r"source '.' would be repeated .* more than max_epochs=9"):
        _plan(tmp_path, 100_000)


def test_the_global_batch_is_the_same_for_every_world(tmp_path: Path) -> None:
    loader = Loader(_plan(tmp_path, 96), seed=3)
    for step in (5, 0, 5):  # no state: any order, twice the same
        whole = loader.batch(step, 0, 1, 8)
        for world in (2, 4):
            parts = [loader.batch(step, rank, world, 8) for rank in range(world)]
            woven = np.stack([parts[i % world].tokens_BT[i // world] for i in range(8)])
            assert (woven == whole.tokens_BT).all()
    assert (whole.tokens_BT[:, 1:] == whole.labels_BT[:, :-1]).all()
    assert not (Loader(loader.plan, seed=4).batch(5, 0, 1, 8).tokens_BT == whole.tokens_BT).all()
    with pytest.raises(IndexError):
        loader.batch(12, 0, 1, 8)


def test_every_window_comes_once_an_epoch(tmp_path: Path) -> None:
    sets = {"a": _shard(tmp_path, "a", 30, 30)}
    windows = (len(sets["a"]) - 1) // 16
    loader = Loader(plan(Mix(weights={"a": 1.0}), sets, windows * 2, 16), seed=1)
    seen = Counter(window for _, window in loader.windows(np.arange(windows * 2)))
    assert seen == Counter(dict.fromkeys(range(windows), 2))


def part_ids(shards: ShardSet, begin: int, end: int) -> list[str]:
    """The ids of the documents of these tokens, asked for token by token."""
    return list(dict.fromkeys(shards.documents[shards.documents.at(token)].id for token in range(begin, end)))


def test_the_documents_of_a_step_are_named(tmp_path: Path) -> None:
    loader = Loader(_plan(tmp_path, 96), seed=3)
    tokens_BT = loader.batch(2, 0, 1, 8).tokens_BT
    for row, (source, first, ids) in zip(tokens_BT, loader.documents(16, 8), strict=True):
        part = next(p for p in loader.plan.parts if p.shards.source == source)
        assert (part.shards.tokens[first : first + 16] == row).all()
        assert ids == part_ids(part.shards, first, first + 17)  # with the last label


def test_a_documents_instances_are_those_that_hold_it(tmp_path: Path) -> None:
    """The way back: over all sources, documents and epochs, exactly the instances that touch it, if only by a label."""
    loader = Loader(_plan(tmp_path, 96), seed=3)
    held = loader.documents(0, 96)
    for part in loader.plan.parts:
        for document, *ends in part.shards.documents:
            inside = range(*ends)
            expected = [
                i
                for i, (source, first, _) in enumerate(held)
                if source == part.shards.source and first < inside.stop and inside.start <= first + 16
            ]
            assert loader.instances_of(part.shards.source, document) == expected
    for nobody in ("nobody", "\udcff"):  # the latter: an argument that is no UTF-8
        with pytest.raises(KeyError):
            loader.instances_of("a", nobody)


def test_an_id_that_stands_twice_and_one_that_was_cut_name_all_of_their_documents(tmp_path: Path) -> None:
    ids = ["x", "y", "x", "cut#0", "cut#1", "cut#1x", "cut", "x.", "z"]
    texts = [f"{id_} is number {n} of them. " * 9 for n, id_ in enumerate(ids)]
    write_shards([Document(i, "s", t) for i, t in zip(ids, texts, strict=True)], "s", TOKENIZER, tmp_path)
    shard = ShardSet.open(tmp_path, "s", TOKENIZER.hash)
    wanted = {"x": [0, 2], "cut": [3, 4, 6], "cut#1": [4], "z": [8]}
    assert {name: shard.documents.find(name) for name in wanted} == wanted
    loader = Loader(plan(Mix(weights={"s": 1.0}), {"s": shard}, 2 * ((len(shard) - 1) // 16), 16), seed=3)
    starts = [*(span.first for span in shard.documents), len(shard)]
    for name, numbers in wanted.items():
        held = loader.documents(0, loader.plan.instances)
        touches = [any(first < starts[n + 1] and starts[n] <= first + 16 for n in numbers) for _, first, _ in held]
        assert loader.instances_of("s", name) == [i for i, touched in enumerate(touches) if touched]


@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_a_permutation_is_undone(size: int, seed: int) -> None:
    index = np.arange(size)
    assert (unpermute(permute(index, size, seed), size, seed) == index).all()


@pytest.mark.parametrize("period", [1, 2, 13, 14])
@pytest.mark.parametrize("short", [0, 1])
def test_repeats_by_the_rule(period: int, short: int) -> None:
    """32 full times in a row of up to 13 tokens; one token less is kept, and a period of 14 always."""
    rng = np.random.default_rng(period)
    noise = rng.permutation(np.arange(100, 400))
    ids = np.concatenate([noise[:50], np.tile(np.arange(period), 32)[: 32 * period - short], noise[50:90]])
    assert repeats(ids, 13, 32) == (short == 0 and period <= 13)
