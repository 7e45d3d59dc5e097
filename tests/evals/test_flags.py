"""A planted contamination is flagged in the scores, with its documents, whether it was removed or only marked."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lehr.config.data import Data
from lehr.config.decontamination import Action, Decontamination
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.document import write_jsonl
from lehr.data.leaks import LEAKS, text_key
from lehr.data.preparation.corpus import prepare_corpus
from lehr.evals.contamination import compared_text, evaluation_texts
from lehr.evals.corpus import rows_of as corpus_rows
from lehr.evals.flags import Flags, TrainingSet, rows_of
from lehr.evals.score import score
from lehr.evals.suites import NEEDS_ABOUT, NEEDS_CORPUS, NEEDS_PAIRS, TASKS
from lehr.evals.task import Text
from tests.evals.fakes import TableModel
from tests.evals.given import examples

SEED = 5
LINES = [" ".join(f"w{line}x{word}" for word in range(30)) for line in range(400)]


def _prepared(folder: Path, action: Action) -> TrainingSet:
    """A corpus in which six documents hold questions of `word_problems`, and each document d0 to d149 shares a paragraph with
    one of p0 to p149."""
    asked = [
        compared_text("word_problems", example, 10)
        for split in ("dev", "held_out")
        for example in examples("word_problems", split, 400, SEED)
    ]
    long = [text for text in asked if len(text.split()) >= 12][:6]
    rows = [{"id": f"d{n}", "text": f"{line}\n{LINES[-n - 1]}"} for n, line in enumerate(LINES[:150])]
    rows += [{"id": f"leak{n}", "text": f"Once upon a time. {text} The end, said he."} for n, text in enumerate(long)]
    rows += [{"id": f"p{n}", "text": f"A page number {n}.\n{LINES[n]}\n{n} is where it ends."} for n in range(150)]
    folder.mkdir(parents=True)
    (folder / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = FilesSource(kind="jsonl", path=str(folder / "web.jsonl"), license="CC0-1.0")
    data = Data(
        sources={"web": source}, mixes={"m": Mix(weights={"web": 1.0})}, dev_share=0.1, held_out_share=0.1,
        decontamination=Decontamination(action=action, held_back_hits=1000),
    )  # fmt: skip
    out = folder / "out"
    out.mkdir()
    prepare_corpus(data, evaluation_texts(TASKS, SEED), lambda name, source: [], out, folder / "scratch")
    return TrainingSet("documents", out, frozenset(TASKS), SEED, 10, True)


def test_every_builtin_example_is_compared_by_a_text_that_was_compared() -> None:
    known = evaluation_texts(TASKS, SEED)
    for task in (task for task in TASKS if task not in NEEDS_CORPUS | NEEDS_PAIRS | NEEDS_ABOUT):
        texts = set(known[task])
        for split in ("dev", "held_out"):
            found = [compared_text(task, example, 10) for example in examples(task, split, 100, SEED)]
            assert found and set(found) <= texts, task


@pytest.mark.parametrize("action", ["remove", "flag"])
def test_planted_contamination_is_flagged_with_its_documents(tmp_path: Path, action: Action) -> None:
    trained = _prepared(tmp_path / "corpus", action)
    stays = action == "flag"
    flags, model = Flags([trained], ["what base was trained on"], SEED), TableModel(lambda ids, token: 1 / 261)
    hit = dict[str, int]()
    for split in ("dev", "held_out"):
        found = examples("word_problems", split, 400, SEED)
        held = [flags.held("word_problems", split, example) for example in found]
        for number, leaks in enumerate(held):
            hit |= {f"{leak.source}/{leak.id}": number for leak in leaks}
            assert all(leak.kept == stays for leak in leaks)
        assert len(rows_of("word_problems", split, held)) == sum(map(bool, held))
    back = {row["id"] for split in ("dev", "held_out") for row in corpus_rows(trained.folder / f"{split}.jsonl.gz")}
    assert set(hit) == {f"web/leak{n}" for n in range(6) if f"leak{n}" not in back} and len(hit) > 3
    # A held-back document's paragraph stands in the page of the same number: bits per byte with and without it.
    texts = examples("prose", "held_out", 400, SEED, trained.folder)
    held = [flags.held("prose", "held_out", text) for text in texts]
    pages = {leak.id for leaks in held for leak in leaks}
    assert 3 < sum(map(bool, held)) < len(texts) and pages and all(page[0] in "pd" for page in pages)
    [record] = score(model, "m", "prose", "dev", texts, SEED)
    said = flags.flagged(record.model_copy(update={"split": "held_out"}), held).contamination
    assert said is not None and said.compared == ["documents"] and said.not_compared == ["what base was trained on"]
    assert (said.kept, said.removed) == ((sum(map(bool, held)), 0) if stays else (0, sum(map(bool, held))))
    assert said.documents == sorted(f"web/{page}" for page in pages)[:20] and said.document_count == len(pages)
    assert (said.without is not None) == stays
    if said.without:
        assert said.without.n == len(texts) - said.kept and said.without.value == pytest.approx(math.log2(261))


def test_the_score_without_contaminated_examples_is_that_of_the_others(tmp_path: Path) -> None:
    """2 bits on each byte of the clean text, 8 on each of the contaminated one."""
    row = {"task": "mine", "item": 0, "key": "", "source": "web", "id": "7", "ngrams": 1, "paragraphs": 0, "kept": True}
    texts = [Text("a" * 30), Text("b" * 10)]
    write_jsonl(tmp_path / LEAKS, [{**row, "key": text_key("b" * 10), "example": "b"}])
    flags = Flags([TrainingSet("documents", tmp_path, frozenset({"mine"}), 1, 10, False)], [], 1)
    model = TableModel(lambda ids, token: 1 / 4 if token == 5 + ord("a") else 1 / 256)
    [record] = score(model, "m", "math_text", "dev", texts, 1)
    held = [flags.held("mine", "dev", text) for text in texts]
    said = flags.flagged(record.model_copy(update={"task": "mine"}), held).contamination
    assert record.value == pytest.approx(3.5) and said is not None and said.without is not None
    assert (said.kept, said.documents, said.without.n) == (1, ["web/7"], 1)
    assert said.without.value == pytest.approx(2.0) and said.without.stderr is None


@pytest.mark.parametrize(
    ("task", "seed", "sets"),
    [("mine", 2, 1), ("other", 1, 1), ("preference", 1, 1), ("mine", 1, 0)],
)
def test_what_was_not_compared_is_not_said_to_be_clean(tmp_path: Path, task: str, seed: int, sets: int) -> None:
    """Another wording, another task, a task whose texts are made later, a model of somebody else."""
    known = TrainingSet("documents", tmp_path, frozenset({"mine", "preference"}), 1, 10, True)
    flags = Flags([known][:sets], [] if sets else ["what it was trained on"], seed)
    [record] = score(TableModel(lambda ids, token: 1 / 261), "m", task, "dev", [Text("abc")], seed)
    said = flags.flagged(record, [[]]).contamination
    assert said is not None and said.kept is None and said.removed is None and said.compared == []
    assert said.not_compared == (["documents"] if sets else ["what it was trained on"])


def test_an_older_record_is_not_taken_for_none(tmp_path: Path) -> None:
    write_jsonl(tmp_path / LEAKS, [{"task": "mine", "item": 0, "source": "web", "id": "7", "ngrams": 1}])
    flags = Flags([TrainingSet("documents", tmp_path, frozenset({"mine"}), 1, 10, True)], [], 1)
    [record] = score(TableModel(lambda ids, token: 1 / 261), "m", "mine", "dev", [Text("abc")], 1)
    said = flags.flagged(record, [[]]).contamination
    assert said is not None and said.kept is None and said.not_compared == ["documents"]
