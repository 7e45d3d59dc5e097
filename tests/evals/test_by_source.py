"""Texts by source and domain: each token is predicted once from its own text, scores and errors are those of a plain sum, and
what stands in training documents is named."""

from __future__ import annotations

import gzip
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

from lehr.config import load_recipe
from lehr.config.data import Data
from lehr.config.decontamination import Action, Decontamination
from lehr.config.mix import Mix
from lehr.config.model import Model
from lehr.config.sources import FilesSource
from lehr.data.preparation.corpus import prepare_corpus
from lehr.data.tokenizer import Tokenizer
from lehr.evals import own
from lehr.evals.contamination import evaluation_texts
from lehr.evals.estimate import ratio
from lehr.evals.flags import Flags, TrainingSet, rows_of
from lehr.evals.hard_requests import check_windows
from lehr.evals.parts import difference, estimate, stratified, variants
from lehr.evals.perplexity import strided
from lehr.evals.score import score
from lehr.evals.suites import check_task, metrics_of
from lehr.evals.task import Document, Example, Items, Passage, Record
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.pipeline.graph import graph
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.given import examples
from tests.evals.test_own import written

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "e2e" / "recipe.yaml"
BASE: dict[str, Any] = {"kind": "text", "data": "rows.jsonl.gz", "text": "text", "source": "source", "domain": "topic"}
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


@pytest.mark.parametrize(("window", "stride"), [(64, 32), (64, 64), (LENGTH, 1), (7, 5)])
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


def _paragraph(name: str) -> str:
    return " ".join(f"{name}{word}" for word in range(30))


@pytest.mark.parametrize("action", ["remove", "flag"])
def test_a_planted_paragraph_is_found_with_its_document(tmp_path: Path, action: Action) -> None:
    """A paragraph in other case and spacing counts; half a paragraph, and a heading, do not. Scores with and without."""
    rows = [
        {"text": f"Head\n{_paragraph(f'{source}{t}{n}')}\n{_paragraph(f'{source}{t}{n}b')}", "source": source, "topic": t}
        for source, t in (("web/a", "x"), ("web/a", "y"), ("books", ""))
        for n in range(3)
    ]
    task = written(tmp_path, {**BASE, "split": "dev", "decontaminate": "paragraphs"}, rows)
    planted = {"d5": "  " + rows[0]["text"].split("\n")[1].upper() + " ", "d9": f"x\n{_paragraph('books1')}\ny"}
    others = {"d12": _paragraph("web/ax2")[:150], "d13": "Head", "d14": rows[7]["text"].split("\n")[1][:100] + " and more"}
    pages = {f"d{n}": f"A page number {n}.\n{planted.get(f'd{n}', others.get(f'd{n}', ''))}" for n in range(30)}
    lines = "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in pages.items())
    (tmp_path / "web.jsonl").write_text(lines)
    source = FilesSource(kind="jsonl", path=str(tmp_path / "web.jsonl"), license="CC0-1.0")
    wish = Decontamination(action=action, held_back_hits=1000)
    data = Data(sources={"web": source}, mixes={"m": Mix(weights={"web": 1.0})}, dev_share=0, held_out_share=0,
                decontamination=wish)  # fmt: skip
    (tmp_path / "out").mkdir()
    prepare_corpus(data, evaluation_texts([task], 5), lambda name, source: [], tmp_path / "out", tmp_path / "scratch")
    kept = gzip.decompress((tmp_path / "out" / "documents" / "web.jsonl.gz").read_bytes()).splitlines()
    left = {json.loads(line)["id"] for line in kept}
    stays = action == "flag"
    assert left == pages.keys() - (set() if stays else {"d5", "d9"}), "the other three share n-grams, and no paragraph"
    found, known = examples(task, "dev", 99, 5), own.identity(task)
    flags = Flags([TrainingSet("documents", tmp_path / "out", frozenset({known}), 5, 10, True)], (), 5)
    held = [flags.held(known, "dev", example) for example in found]
    [first, second] = rows_of("mine", "dev", held, found)
    assert (first["source"], first["domain"], first["example"]) == ("web/a", "x", 0)
    assert first["paragraphs"] == {"web/d5": rows[0]["text"].split("\n")[1]} and second["source"] == "books"
    assert first["kept" if stays else "removed"] == ["web/d5"]
    model = TableModel(lambda ids, token: 1 / (4 + token % 7), max_length=600)
    records = {r.metric: flags.flagged(r, held, known) for r in score(model, "m", "mine", "dev", found, 1)}
    clean = {r.metric: r for r in score(model, "m", "mine", "dev", [e for n, e in enumerate(found) if n not in (0, 7)], 1)}
    for metric, record in records.items():
        said = record.contamination
        assert said and (said.kept, said.removed) == ((2, 0) if stays else (0, 2)) and said.documents == ["web/d5", "web/d9"]
        assert (said.without is not None) == stays
        if said.without:
            assert (said.without.value, said.without.stderr) == (clean[metric].value, clean[metric].stderr), metric
        expected = {(p.source, p.domain): p for p in clean[metric].parts}
        for part in record.parts:
            hit = stays and (part.source, part.domain) in {("web/a", ""), ("web/a", "x"), ("books", "")}
            assert part.kept == (1 if hit else 0) and (part.without is not None) == hit
            if part.without:
                same = expected[part.source, part.domain]
                assert (part.without.value, part.without.n) == (same.value, same.n)


GOOD = [{"text": "some words", "source": "web", "topic": "a"}, {"text": "other words", "source": "books"}]


@pytest.mark.parametrize(
    ("said", "rows", "what"),
    [
        ({}, [*GOOD, {"text": "x"}], r"rows.jsonl.gz:3: source: no field `source` in this row; it has text\. Mend"),
        ({}, [*GOOD, {"text": "", "source": "web", "topic": "a"}], r":3: text: it is empty\. Remove the row"),
        ({}, [*GOOD, {"text": "x", "source": " "}], r":3: source: ' ' is no name of 1 to 200 characters"),
        ({}, [*GOOD, {"text": "x", "source": None}], r":3: source: None is no name"),
        ({}, [*GOOD, {"text": "x", "source": "s" * 201}], r":3: source: .* is no name of 1 to 200 characters"),
        ({}, [*GOOD, {"text": "x", "source": "web"}], r":3: domain: of the source 'web' this row has none, unlike .*:1"),
        ({}, [*GOOD, {"text": "x", "source": "books", "topic": "b"}], r":3: domain: .*'books' this row has one, unlike .*:2"),
        ({}, [*GOOD, {"text": "x", "source": "web", "topic": ["a"]}], r":3: domain: \['a'\] is no name"),
        ({}, [*GOOD, {"text": "half \ud800", "source": "books"}], r":3: text: lone surrogates, no valid Unicode"),
        ({}, [*GOOD, {"text": "x", "source": "half \ud800"}], r":3: source: .* is no name"),
        ({"domain": "domian"}, GOOD, r":1: domain: no row has a domain by 'domian'\. Correct the key, or leave it out"),
        ({"source": "{{ sauce }}"}, GOOD, r"source: .*sauce"),
        ({"source": "{{ source"}, GOOD, r"mine.yaml: source: "),
        ({"window": 8, "stride": 9}, GOOD, r"windows of 8 tokens that advance by 9 leave tokens out\. Lower it to 8 or less"),
        ({"stride": 9}, GOOD, r"stride: windows advance by it\. Add window"),
        ({"window": 0}, GOOD, r"window"),
        ({"source": ""}, GOOD, r"source: it names a field\. Leave it out if there is none"),
        ({"source": None}, GOOD, r"domain: domains are parts of sources\. Add source"),
        ({"kind": "continuation", "prompt": "q", "target": "a", "text": None}, GOOD, "a task of kind continuation has none"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_and_row(tmp_path: Path, said: dict[str, Any], rows: list[Any], what: str) -> None:
    merged = {key: value for key, value in {**BASE, **said}.items() if value is not None}
    with pytest.raises(UserError, match=what) as caught:
        check_task(written(tmp_path, merged, rows))
    assert "\n" not in str(caught.value)


def test_windows_longer_than_the_context_are_refused_before_work(tmp_path: Path) -> None:
    task = written(tmp_path, {**BASE, "window": 300}, GOOD)
    with pytest.raises(UserError, match=r"task mine: windows of 300 tokens are more than the model's context of 299\. Lower"):
        check_windows("mine", examples(task, "held_out", 9, 0), 299)
    check_windows("mine", examples(task, "held_out", 9, 0), 300)
    asked = f"evaluation.tasks=[{{task: {task}}}]"
    with pytest.raises(UserError, match="windows of 300 tokens are more than the model's context of 128"):
        graph(load_recipe(TINY, [asked]))
    paragraphs = written(tmp_path, {**BASE, "decontaminate": "paragraphs"}, GOOD, name="by.yaml")
    with pytest.raises(UserError, match=r"by paragraphs, and data\.decontamination\.paragraphs is null"):
        graph(load_recipe(TINY, [f"evaluation.tasks=[{{task: {paragraphs}}}]", "data.decontamination.paragraphs=null"]))


def test_a_limit_takes_of_each_domain_equally_many(tmp_path: Path) -> None:
    rows = [{"text": f"{s} {n}", "source": s} for s, count in (("a", 9), ("b", 2), ("c", 5)) for n in range(count)]
    task = written(tmp_path, {key: value for key, value in BASE.items() if key != "domain"}, rows)
    texts = [e.text for e in examples(task, "held_out", 8, 0) if isinstance(e, Document)]
    assert texts == ["a 0", "a 1", "a 2", "b 0", "b 1", "c 0", "c 1", "c 2"]
    assert len(examples(task, "held_out", 99, 0)) == 16 and stratified("aab", 9) == [0, 1, 2]
    assert metrics_of(task) == ["bits_per_byte", "perplexity", "bits_per_byte_over_sources", "perplexity_over_sources"]


def test_a_task_without_the_new_keys_is_the_one_it_was(tmp_path: Path) -> None:
    """Its identity, by which records of contamination know it, is the one that the version before them computed."""
    (tmp_path / "rows.jsonl").write_text('{"text": "some words"}\n{"text": "other words"}\n')
    (tmp_path / "mine.yaml").write_text("kind: text\ndata: rows.jsonl\ntext: text\n")
    task = str(tmp_path / "mine.yaml")
    assert own.identity(task) == "mine@c037b7bccbbe453a"
    assert own.metrics_of(task) == ["bits_per_byte"] and type(own.loaded(task).examples[0]) is Passage
    (tmp_path / "mine.yaml").write_text("kind: text\ndata: rows.jsonl\ntext: text\nwindow: 64\n")
    assert own.identity(task) != "mine@c037b7bccbbe453a"


def test_held_back_documents_by_their_source(tmp_path: Path) -> None:
    rows = [{"id": f"{s}{n}", "source": s, "text": f"{s} {n} " + "word " * 900, "parent": "p" if n < 2 else None}
            for s, count in (("web", 6), ("books", 3)) for n in range(count)]  # fmt: skip
    (tmp_path / "dev.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    found = [e for e in examples("prose_by_source", "dev", 6, 5, tmp_path) if isinstance(e, Document)]
    assert sorted(e.source for e in found) == ["books"] * 3 + ["web"] * 3 and all(len(e.text) > 4500 for e in found)
    whole: list[Example] = examples("prose_by_source", "dev", 99, 5, tmp_path)
    [pooled, *_] = records = score(TableModel(lambda ids, token: 0.25), "m", "prose_by_source", "dev", whole, 1)
    assert [r.metric for r in records] == metrics_of("prose_by_source")
    assert [(part.source, part.n, part.clusters) for part in pooled.parts] == [("books", 3, 2), ("web", 6, 5)]
    assert pooled.value == pytest.approx(2.0) and isinstance(pooled, Record)
