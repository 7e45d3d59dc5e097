"""The `data:` of every released recipe runs on documents that a user supplies, with nothing changed but their paths."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lehr.config import load_recipe
from lehr.config.filters.text import LanguageFilter
from lehr.config.sources import ExternalSource, FilesSource
from lehr.data.preparation.corpus import prepare_corpus
from lehr.evals.contamination import evaluation_texts
from tests.data.paragraphs import TEXTS
from tests.data.preparation.samples import prose, rows, write

RELEASED = sorted((Path(__file__).resolve().parents[3] / "recipes/released").glob("*.yaml"))
CHEAP = ("olmo-0424-7b", "olmo1-7b", "olmo2-7b", "stablelm2-1.6b")  # a second for all of them
GIBBERISH = "Qzx vfrt plmk wjqx brzt kvnm pqrs xtzv bnmk " * 12
BULLETS = "\n".join(f"- {line}" for line in " ".join(prose()[400:402]).split(". "))
PLANTED: dict[str, list[tuple[dict[str, Any], str]]] = {  # source -> a row, and why it is dropped ("": it is kept)
    "starcoder": [
        ({"max_stars_count": 1, "text": "def ring(bell):\n    return bell.sound()\n" + "x = 1\n" * 3}, "too few stars"),
        ({"max_stars_count": 9, "text": " ".join(f"zero {n}" for n in "abcdefghijklm" * 2)}, "one word too often"),
        ({"max_stars_count": 9, "text": "def f(x):\n    return x + 3\n"}, ""),
    ],
    "stackexchange": [
        ({"question_votes": 2, "answer_votes": 9, "accepted_answer": True}, "too few votes for the question"),
        ({"question_votes": 3, "answer_votes": 4, "accepted_answer": True}, "too few votes for the answer"),
        ({"question_votes": 3, "answer_votes": 5, "accepted_answer": False}, "no accepted answer"),
        ({"question_votes": 3, "answer_votes": 5, "accepted_answer": 7}, ""),
    ],
    "dclm": [({"text": f"{prose()[410]} {'again and ' * 40}"}, "repeated n-gram"), ({"text": prose()[411]}, "")],
    "fineweb": [
        ({"text": GIBBERISH}, "language unknown"),
        ({"text": BULLETS}, "too many bullet points"),
        ({"text": " ".join(prose()[412].split()[:40])}, "too few words"),
        ({"text": prose()[413] + " One word more."}, ""),
        ({"text": prose()[413] + " One word less."}, "near duplicate"),
    ],
    "common_crawl": [({"text": prose()[414]}, ""), ({"text": prose()[414].upper()}, "exact duplicate")],
    "dolma": [({"text": prose()[415]}, ""), ({"text": prose()[415]}, "exact duplicate")],
}


def _params() -> list[Any]:
    long = (pytest.mark.long,)
    return [pytest.param(path, id=path.stem, marks=() if path.stem in CHEAP else long) for path in RELEASED]


@pytest.mark.parametrize("path", _params())
def test_its_data_runs_on_supplied_documents(path: Path, tmp_path: Path) -> None:
    named = load_recipe(path).data
    assert named is not None
    expected, overrides = dict[str, str](), []
    for number, (name, source) in enumerate(named.sources.items()):
        assert isinstance(source, ExternalSource)
        found = rows(name, source, number)
        planted = PLANTED.get(name, []) if "stablelm2" not in path.stem else []  # whose report has no rules of its own
        for at, (row, why) in enumerate(planted):
            found.append({"text": prose()[420 + at], **row, "id": f"{name}/planted/{at}"})
            expected[f"{name}/planted/{at}"] = why
        overrides.append(f"data.sources.{name}.path={write(tmp_path / 'in', name, source, found)}")
    data = load_recipe(path, overrides).data
    assert data is not None and all(isinstance(source, FilesSource) for source in data.sources.values())
    texts = evaluation_texts(["chat_math"], 7, ngram_words=data.decontamination.ngram)
    funnels = prepare_corpus(data, texts, lambda name, source: [], tmp_path / "out", tmp_path / "scratch")
    assert list(funnels) == list(named.sources) and all(funnel.train for funnel in funnels.values())
    kept, dropped = _said(tmp_path / "out")
    wrong = {id_: (why, dropped.get(id_)) for id_, why in expected.items() if dropped.get(id_, "") != why}
    assert not wrong and not expected.keys() - kept.keys() - dropped.keys()
    language = data.filters.get("language")
    if isinstance(language, LanguageFilter):
        many = [row for row in kept.values() if row["source"] in ("madlad_12", "europarl")]
        assert {row["language"] for row in many} == set(language.keep)
        lost = [id_ for id_, why in dropped.items() if why.startswith("language") and id_ not in expected]
        assert len(lost) == (len(TEXTS) - len(language.keep) if "europarl" in named.sources else 0), lost
    if "code_pile" in named.sources:
        said = {id_.rpartition("/")[2]: why for id_, why in dropped.items() if id_.startswith("code_pile")}
        copyleft = dict.fromkeys(("main.py", "COPYING"), "licence not allowed")
        assert said == {**copyleft, "data.xml": "XML", "few.txt": "too few letters"}
        assert len([row for row in kept.values() if row["source"] == "code_pile"]) >= 4


def _said(out: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The kept rows and the reasons of the dropped ones, by id."""
    every = [*(out / "documents").glob("*.gz"), out / "dev.jsonl.gz", out / "held_out.jsonl.gz"]
    kept = {row["id"]: row for path in every for row in _rows(path)}
    return kept, {row["id"]: row["reason"] for row in _rows(out / "dropped.jsonl.gz")}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
