"""Tasks of texts with sources: what is read of their rows, which stand in training documents, and mistakes in one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lehr.config import load_recipe
from lehr.config.data import Data
from lehr.config.decontamination import Action, Decontamination
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.preparation.corpus import prepare_corpus
from lehr.evals import own
from lehr.evals.contamination import evaluation_texts
from lehr.evals.flags import Flags, TrainingSet, rows_of
from lehr.evals.hard_requests import check_windows
from lehr.evals.parts import stratified
from lehr.evals.score import score
from lehr.evals.suites import check_task, metrics_of
from lehr.evals.task import Document, Example, Passage, Record
from lehr.pipeline.graph import graph
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.given import examples
from tests.evals.test_own import written

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "e2e" / "recipe.yaml"
BASE: dict[str, Any] = {"kind": "text", "data": "rows.jsonl.gz", "text": "text", "source": "source", "domain": "topic"}


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
