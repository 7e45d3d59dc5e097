"""Texts by source and domain: each token is predicted once from its own text, scores and errors are those of a plain sum."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
import torch

from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.evals.estimate import ratio
from lehr.evals.parts import difference, estimate, variants
from lehr.evals.perplexity import strided
from lehr.evals.score import score
from lehr.evals.task import Document, Items, Passage
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer

TOKENIZER = Tokenizer.train(["the quick brown fox jumps over lazy dogs " * 30], 300)
LENGTH = 96


def _model() -> LanguageModel:
    sizes = {"vocab_size": 300, "n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden": 96}
    return LanguageModel(Transformer(Model(family="olmo2", max_seq_len=LENGTH, init_std=0.1, **sizes)).initialise(5), TOKENIZER)


def _texts(seed: int = 0) -> list[tuple[str, str, str]]:
    """Text, source, domain: shorter and longer than any window here; a source without domains, and one with a single text."""
    random = Random(seed)
    sources = [("web/a", "one"), ("web/a", "two"), ("books", ""), ("single", "")]
    counts = {"single": 1}
    return [
        ("".join(random.choice("the quick brown fox! ") for _ in range(random.choice([1, 30, 96, 97, 400]))), source, domain)
        for source, domain in sources
        for _ in range(counts.get(source, 5))
    ]


def _documents(window: int, stride: int, seed: int = 0) -> list[Document]:
    return [Document(text, "", source, domain, window, stride) for text, source, domain in _texts(seed)]


def _plain_nats(lm: LanguageModel, text: str, window: int, stride: int) -> list[float]:
    """Token by token: each alone, after what it may see by the words of docs/evaluation.md, in fp64."""
    ids, found = TOKENIZER.encode(text), []
    for place, token in enumerate(ids):
        if place < window:
            context = [TOKENIZER.eos_id, *ids[:place]]
        else:
            end = min(window + stride * ((place - window) // stride + 1), len(ids))
            context = ids[end - window - 1 : place]
            assert len(context) >= window - stride + 1, "as much as the stride leaves"
        with torch.no_grad():
            logits_V = lm.model(torch.tensor([context]))[0, -1].double()
        found.append(-float(logits_V.log_softmax(-1)[token]))
    return found


@pytest.mark.parametrize(("window", "stride"), [(64, 32), (64, 64), pytest.param(LENGTH, 1, marks=pytest.mark.long), (7, 5)])
def test_equal_to_a_plain_loop_over_logits(window: int, stride: int) -> None:
    lm = _model()
    texts = [one for one in _texts() if len(one[0]) < 200] if stride == 1 else _texts()
    documents = [Document(text, "", source, domain, window, stride) for text, source, domain in texts]
    nats = [_plain_nats(lm, text, window, stride) for text, _, _ in texts]
    found = {r.metric: r for r in score(lm, "m", "t", "dev", documents, 1)}
    means = defaultdict[str, dict[str, tuple[float, float]]](dict)
    keys = [(source, domain) for _, source, domain in texts]
    for key in dict.fromkeys(keys):
        own_nats = [value for value, of in zip(nats, keys, strict=True) if of == key]
        size = sum(len(text.encode()) for (text, _, _), of in zip(texts, keys, strict=True) if of == key)
        bits, tokens = sum(map(sum, own_nats)) / math.log(2) / size, sum(map(len, own_nats))
        means[key[0]][key[1]] = bits, math.exp(sum(map(sum, own_nats)) / tokens)
    for base, place in (("bits_per_byte", 0), ("perplexity", 1)):
        parts = {(part.source, part.domain): part for part in found[base].parts}
        for source, domains in means.items():
            for domain, values in domains.items():
                assert parts[source, domain].value == pytest.approx(values[place], rel=1e-6)
            mean = parts[source, ""].mean
            if len(domains) > 1:
                assert mean and mean.value == pytest.approx(fmean(v[place] for v in domains.values()), rel=1e-6)
                assert parts[source, ""].domains == len(domains)
        every = [values[place] for domains in means.values() for values in domains.values()]
        by_source = [fmean(values[place] for values in domains.values()) for domains in means.values()]
        assert found[f"{base}_over_domains"].value == pytest.approx(fmean(every), rel=1e-6)
        assert found[f"{base}_over_sources"].value == pytest.approx(fmean(by_source), rel=1e-6)
    total, tokens = math.fsum(map(math.fsum, nats)), sum(map(len, nats))
    size = sum(len(text.encode()) for text, _, _ in texts)
    assert found["bits_per_byte"].value == pytest.approx(total / math.log(2) / size, rel=1e-6)
    assert found["perplexity"].value == pytest.approx(math.exp(total / tokens), rel=1e-6)


def test_every_token_is_predicted_once_and_a_window_is_never_longer() -> None:
    for count in range(40):
        ids = list(range(100, 100 + count))
        for window in range(1, 12):
            for stride in range(1, window + 1):
                asked = strided(ids, 7, window, stride)
                assert [token for _, continuation in asked for token in continuation] == ids
                for number, (context, continuation) in enumerate(asked):
                    assert len(context) + len(continuation) - 1 <= window and continuation
                    begins = ids.index(continuation[0])
                    assert context == ([7] if number == 0 else ids[begins - len(context) : begins])
                    assert number == 0 or len(context) >= window - stride + 1


def test_stride_as_long_as_the_window_is_what_there_was_before() -> None:
    """Windows as `rolling` made them, and the score of a plain passage to the bit."""

    def rolling(ids: list[int], first: int, width: int) -> list[tuple[list[int], list[int]]]:
        found = []
        for start in range(0, len(ids), width):
            end = min(start + width, len(ids))
            begin = min(start - 1, end - width - 1) if start else 0
            found.append((ids[begin:start] if start else [first], ids[start:end]))
        return found

    for count in range(30):
        ids = list(range(count))
        assert all(strided(ids, 99, width, width) == rolling(ids, 99, width) for width in range(1, 9))
    lm, plain = _model(), [Passage(text) for text, _, _ in _texts()]
    [before] = score(lm, "m", "t", "dev", plain, 1, window_tokens=50)
    for window, stride in ((0, 0), (50, 50), (50, 0)):
        now = score(lm, "m", "t", "dev", _documents(window, stride), 1, window_tokens=50)[0]
        assert now.items and before.items and now.items.values == before.items.values
        assert (now.value, now.stderr, now.n) == (before.value, before.stderr, before.n)


def test_no_bit_depends_on_order_grouping_or_other_texts() -> None:
    lm, documents = _model(), _documents(48, 20)
    whole = score(lm, "m", "t", "dev", documents, 1)[0]
    assert whole.items
    bits = {id(one): value for one, value in zip(documents, whole.items.values, strict=True)}
    shuffled = Random(1).sample(documents, len(documents))
    again = score(lm, "m", "t", "dev", shuffled, 1)[0]
    assert again.items and again.items.values == [bits[id(one)] for one in shuffled]
    assert again.parts == whole.parts and again.value == whole.value
    renamed = [replace(one, source=f"s{number % 3}", domain="") for number, one in enumerate(documents)]
    assert score(lm, "m", "t", "dev", renamed, 1)[0].items.values == whole.items.values  # type: ignore[union-attr]
    for one in documents[::4]:
        alone = score(lm, "m", "t", "dev", [one], 1)[0]
        assert alone.items and alone.items.values == [bits[id(one)]] and alone.parts[0].stderr is None


def _items(**changes: Any) -> Items:
    """Domains a1 (2 texts), a2 (3 texts) of source a, and source b (2 texts)."""
    values, weights = [3.0, 5.0, 2.0, 7.0, 4.0, 9.0, 1.0], [1.0, 2.0, 2.0, 3.0, 1.0, 4.0, 1.0]
    return Items(values, weights, [], [0, 0, 1, 1, 1, 2, 2], [("a", "a1"), ("a", "a2"), ("b", "")], **changes)


def test_errors_of_means_and_perplexities_by_hand() -> None:
    items = _items()
    each = [ratio(items.values[i:j], items.weights[i:j]) for i, j in ((0, 2), (2, 5), (5, 7))]
    assert all(one.stderr for one in each)
    (a1, a2, b), errors = [one.value for one in each], [one.stderr or 0.0 for one in each]
    over = estimate(_items(over="domains"))
    assert over.value == pytest.approx((a1 + a2 + b) / 3) and over.n == over.clusters == 7
    assert over.stderr == pytest.approx(math.hypot(*errors) / 3)
    sources = estimate(_items(over="sources"))
    assert sources.value == pytest.approx(((a1 + a2) / 2 + b) / 2)
    assert sources.stderr == pytest.approx(math.hypot(errors[0] / 4, errors[1] / 4, errors[2] / 2))
    plain, raised = ratio(items.values, items.weights), estimate(_items(exp=True))
    assert raised.value == pytest.approx(math.exp(plain.value))
    assert raised.stderr == pytest.approx(raised.value * (plain.stderr or 0.0))
    powers = estimate(_items(exp=True, over="domains"))
    assert powers.value == pytest.approx(fmean(map(math.exp, (a1, a2, b))))
    assert powers.stderr == pytest.approx(math.hypot(*(math.exp(v) * e for v, e in zip((a1, a2, b), errors, strict=True))) / 3)
    single = replace(items, values=items.values[:-1], weights=items.weights[:-1], groups=items.groups[:-1], over="domains")
    assert estimate(single).stderr is None, "of a domain with one text nothing is known"
    pairs = replace(items, clusters=[0, 0, 1, 2, 3, 4, 5], over="domains")
    assert estimate(pairs).stderr is None, "two texts of one cluster are one"


def test_paired_differences_are_those_of_the_scores() -> None:
    """Of a plain score as before; of others within their errors of a repeated draw of texts within each domain."""
    a, random = _items(), Random(3)
    b = replace(a, values=[value + random.random() for value in a.values])
    apart = ratio([y - x for x, y in zip(a.values, b.values, strict=True)], a.weights)
    assert difference(a, b) == pytest.approx(apart)
    strata = {0: [random.gauss(3, 1) for _ in range(400)], 1: [random.gauss(2, 0.5) for _ in range(400)]}
    names = [("a", "x"), ("b", "")]

    def drawn() -> tuple[Items, Items]:
        values, groups = list[float](), list[int]()
        for stratum, pool in strata.items():
            values += random.choices(pool, k=30)
            groups += [stratum] * 30
        first = Items(values, [], [], groups, names, exp=True, over="domains")
        return first, replace(first, values=[0.9 * value + 0.1 for value in values])

    found = [difference(*drawn()) for _ in range(400)]
    spread = math.sqrt(fmean((one.value - fmean(o.value for o in found)) ** 2 for one in found))
    assert fmean(one.stderr or 0.0 for one in found) == pytest.approx(spread, rel=0.12)
    first, second = drawn()
    assert difference(first, second).value == pytest.approx(estimate(second).value - estimate(first).value)
    assert (difference(first, second).stderr or 0) < (estimate(first).stderr or 0), "paired, it is known better"


def test_variants_of_items_are_the_scores(tmp_path: Path) -> None:
    """What a comparison makes of the items of two metrics is what the records say, of all metrics and of each source."""
    records = {r.metric: r for r in score(_model(), "m", "t", "dev", _documents(32, 16), 1)}
    made: dict[str, Items] = {}
    for base in ("bits_per_byte", "perplexity"):
        items = records[base].items
        assert items
        made |= variants(base, Items(**json.loads(json.dumps(asdict(items)))))
    assert made.keys() > records.keys()
    for metric, record in records.items():
        assert estimate(made[metric]).value == record.value and estimate(made[metric]).stderr == record.stderr
    for part in records["bits_per_byte"].parts:
        if not part.domain:
            assert estimate(made[f"bits_per_byte@{part.source}"]).value == part.value
