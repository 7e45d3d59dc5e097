"""Tasks of one's own: what stands in their YAML and rows is what is asked and judged; a mistake is one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.config.data import Data
from lehr.config.decontamination import Decontamination
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.preparation.corpus import prepare_corpus
from lehr.evals import own
from lehr.evals.contamination import compared_text, evaluation_texts
from lehr.evals.flags import Flags, TrainingSet
from lehr.evals.score import score
from lehr.evals.suites import check_task, metrics_of
from lehr.evals.task import Asked, Example, Question, Record
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.given import examples

CAPITALS = [
    {"country": "France", "options": ["Paris", "Rome"], "right": 0, "page": "a"},
    {"country": "Italy", "options": ["Oslo", "Rome"], "right": "Rome", "page": "a"},
    {"country": "Norway", "options": ["Oslo", "Bern"], "right": "A", "page": "b"},
]
CHOICE: dict[str, Any] = {
    "kind": "choice", "data": "rows.jsonl.gz", "prompt": "Q: {{ country }}?\nA:", "choices": "options", "target": "right",
}  # fmt: skip


def written(folder: Path, said: dict[str, Any], rows: list[Any] = CAPITALS, name: str = "mine.yaml") -> str:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    (folder / name).write_text(yaml.safe_dump(said, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(folder / name)


def found(task: str) -> list[Example]:
    return examples(task, own.split_of(task), 99, 0)


def values(records: list[Record]) -> dict[str, float]:
    return {record.metric: record.value for record in records}


def test_a_choice_is_asked_with_shots_that_are_never_the_scored_row(tmp_path: Path) -> None:
    task = written(tmp_path, {**CHOICE, "description": "Capitals.\n", "shots": {"number": 1}, "cluster": "page"})
    asked = [e for e in found(task) if isinstance(e, Question)]
    assert [e.context for e in asked] == [
        "Capitals.\nQ: Italy?\nA: Rome\n\nQ: France?\nA:",
        "Capitals.\nQ: France?\nA: Paris\n\nQ: Italy?\nA:",
        "Capitals.\nQ: France?\nA: Paris\n\nQ: Norway?\nA:",
    ]
    assert [e.continuations for e in asked] == [(" Paris", " Rome"), (" Oslo", " Rome"), (" Oslo", " Bern")]
    assert [e.golds for e in asked] == [(0,), (1,), (0,)], "a number, a text, a letter"
    assert metrics_of(task)[0] == "acc" and own.name_of(task) == "mine"
    drawn = written(tmp_path, {**CHOICE, "shots": {"number": 2, "order": "drawn", "seed": 3}}, name="drawn.yaml")
    for example, row in zip(found(drawn), CAPITALS, strict=True):
        assert isinstance(example, Question) and str(row["country"]) not in example.context.rpartition("\n\n")[0]


def test_letters_and_accuracies_by_hand(tmp_path: Path) -> None:
    """` Paris` costs 6 bits and ` Rome` 5: less by the sum, more by the characters after the blank. Of equals, the first."""
    model = TableModel(lambda ids, token: 0.5, max_length=400)
    task = written(tmp_path, {**CHOICE, "judged_by": "acc_per_char", "split": "dev", "cluster": "page"})
    records = score(model, "m", "mine", "dev", found(task), 1)
    assert records[0].metric == "acc_per_char" and (records[0].n, records[0].clusters) == (3, 2)
    assert values(records) == {
        "acc_per_char": 2 / 3, "acc": 1 / 3, "acc_per_byte": 2 / 3, "acc_per_token": 2 / 3,
        "answer_bits_per_byte": pytest.approx((6 / 5 + 5 / 4 + 5 / 4) / 3),
    }  # fmt: skip
    letters = written(
        tmp_path, {**CHOICE, "formulation": "letters", "prompt": "{{ country }}\n{{ listed }}\nA:"}, name="l.yaml"
    )
    first = found(letters)[0]
    assert isinstance(first, Question) and first.continuations == (" A", " B")
    assert first.context == "France\n A. Paris\n B. Rome\nA:"


def test_generated_answers_are_cut_taken_out_and_judged(tmp_path: Path) -> None:
    rows = [{"q": "2+3", "a": "#### 5"}, {"q": "2+2", "a": "#### 4"}]
    said: dict[str, Any] = {
        "kind": "generation", "data": "rows.jsonl.gz", "split": "dev", "prompt": "{{ q }}=",
        "target": "{{ a.split('#### ')[1] }}",
        "stop": ["Q:"], "max_tokens": 24, "extract": {"last": [{"do": "regex", "pattern": "[0-9]+", "group": -1}], "whole": []},
        "metrics": {"exact_match": {}, "last_number": {}, "f1": {}},
    }  # fmt: skip
    model = TableModel(lambda ids, token: 0.5, lambda prompt, t: "is 1 and 5Q: 7", max_length=64)
    task = written(tmp_path, said, rows)
    assert values(score(model, "m", "mine", "dev", found(task), 1)) == {
        "exact_match@last": 0.5, "last_number@last": 0.5, "f1@last": 0.5,
        "exact_match@whole": 0.0, "last_number@whole": 0.5, "f1@whole": pytest.approx(0.5 * 2 / 5),
    }  # fmt: skip


def test_pass_at_k_is_the_share_of_choices_of_k_samples_with_a_right_one(tmp_path: Path) -> None:
    from itertools import combinations

    from lehr.evals.answers import pass_at

    for n, c in ((5, 0), (5, 2), (6, 5), (4, 4)):
        right = [number < c for number in range(n)]
        for k in range(1, n + 1):
            every = [any(right[i] for i in chosen) for chosen in combinations(range(n), k)]
            assert pass_at(k, n, c) == pytest.approx(sum(every) / len(every), abs=1e-12)
    said: dict[str, Any] = {
        "kind": "generation", "data": "rows.jsonl.gz", "split": "dev", "prompt": "q", "target": "a", "temperature": 1.0,
        "samples": 4, "pass_at": [1, 2], "max_tokens": 4, "metrics": {"exact_match": {}},
    }  # fmt: skip
    answers = iter(["5", "4", "4", "5"] * 2)
    model = TableModel(lambda ids, token: 0.5, lambda prompt, t: next(answers), max_length=64)
    task = written(tmp_path, said, [{"q": "x", "a": "5"}, {"q": "y", "a": "9"}])
    assert values(score(model, "m", "mine", "dev", found(task), 1)) == {
        "exact_match": 0.25, "pass@1": 0.25, "pass@2": pytest.approx(0.5 * (1 - 1 / 6)),
    }  # fmt: skip


def test_texts_are_scored_in_windows_whose_last_is_filled(tmp_path: Path) -> None:
    rows = [{"text": "abcdefg"}, {"text": "é{{ 1 }}"}]
    task = written(tmp_path, {"kind": "text", "data": "rows.jsonl.gz", "text": "text", "split": "dev"}, rows)
    model = TableModel(lambda ids, token: 0.25, max_length=5)
    assert values(score(model, "m", "mine", "dev", found(task), 1)) == {"bits_per_byte": 2.0}
    assert [("".join(chr(i - 5) for i in a if i >= 5), len(b)) for a, b in model.requests[:2]] == [("", 5), ("bcde", 2)]
    assert found(task)[1].text == "é{{ 1 }}", "other people's text is no template"  # type: ignore[union-attr]


MISTAKES: list[tuple[dict[str, Any], list[Any], str]] = [
    ({**CHOICE, "promt": "x"}, CAPITALS, r"mine\.yaml: promt: unknown key.*Did you mean 'prompt'"),
    ({**CHOICE, "kind": "coice"}, CAPITALS, r"mine\.yaml: kind"),
    ({key: value for key, value in CHOICE.items() if key != "target"}, CAPITALS, r"target: a task of kind choice needs it"),
    (CHOICE, [*CAPITALS, {**CAPITALS[0], "right": 2}], r"rows\.jsonl\.gz:4: target: 2 is none of the 2 choices"),
    (CHOICE, [{**CAPITALS[0], "options": ["a"]}], r"rows\.jsonl\.gz:1: choices: they are a list of 1"),
    ({**CHOICE, "target": "gold"}, CAPITALS, r"rows\.jsonl\.gz:1: target: no field `gold` in this row; it has country"),
    ({**CHOICE, "prompt": "{{ city }}"}, CAPITALS, r"rows\.jsonl\.gz:1: prompt: .*'city' is undefined"),
    ({**CHOICE, "prompt": "{{ city"}, CAPITALS, r"mine\.yaml: prompt: the template is no Jinja"),
    ({**CHOICE, "prompt": "{{ ''.__class__ }}"}, CAPITALS, r"prompt: .*unsafe"),
    (CHOICE, [*CAPITALS, ["a"]], r"rows\.jsonl\.gz:4: "),
    ({**CHOICE, "data": "else.jsonl"}, CAPITALS, r"mine\.yaml: there is no file .*else\.jsonl"),
    ({**CHOICE, "shots": {"number": 3}}, CAPITALS, r"rows\.jsonl\.gz:1: shots: 3 are wanted, and there are 2"),
    ({**CHOICE, "cluster": "book"}, CAPITALS, r"rows\.jsonl\.gz:1: cluster: no field `book`"),
    (
        {"kind": "generation", "data": "rows.jsonl.gz", "prompt": "country", "target": "page", "metrics": {"exact_match": {}}},
        [{**CAPITALS[0], "page": ""}],
        r"rows\.jsonl\.gz:1: target: it is empty",
    ),
    (
        {"kind": "generation", "data": "rows.jsonl.gz", "prompt": "country", "target": "page", "metrics": {"last_number": {}}},
        CAPITALS,
        r"rows\.jsonl\.gz:1: metrics\.last_number: .*it has no number",
    ),
]


@pytest.mark.parametrize(("said", "rows", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_its_place(said: dict[str, Any], rows: list[Any], message: str, tmp_path: Path) -> None:
    task = written(tmp_path, said, rows)
    with pytest.raises(UserError, match=message) as raised:
        check_task(task, "--tasks")
    assert raised.value.remedy


def test_a_task_is_known_by_its_content(tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    here.mkdir(), there.mkdir()
    one, two = written(here, CHOICE), written(there, CHOICE)
    assert own.identity(one) == own.identity(two) and own.identity(one).startswith("mine@")
    texts = evaluation_texts([one, "arithmetic"], 0)
    assert list(texts) == [own.identity(one), "arithmetic"]
    assert texts[own.identity(one)][0] == "Q: France?\nA: Paris" == compared_text(own.identity(one), found(one)[0], 10)
    before = own.identity(two)
    written(there, CHOICE, CAPITALS[:2])
    assert own.identity(two) != before, "other rows are another task"


def test_a_chat_is_asked_in_turns(tmp_path: Path) -> None:
    said = {
        "kind": "generation", "data": "rows.jsonl.gz", "prompt": "country", "target": "{{ options[0] }}", "chat": True,
        "shots": {"number": 1}, "metrics": {"mentions": {"all": ["{{ options[0] }}"]}},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"metrics\.mentions: "):
        found(written(tmp_path, {**said, "metrics": {"mentions": {"none": []}}}))
    [first, *_] = found(written(tmp_path, {**said, "metrics": {"mentions": {"all": "options"}}}))
    assert isinstance(first, Asked) and [m.role for m in first.messages] == ["user", "assistant", "user"]
    assert first.checks == (("mentions", {"all": ["Paris", "Rome"]}),)


def test_planted_contamination_of_a_task_is_flagged(tmp_path: Path) -> None:
    """A kept document holds the second row's question: the score names it, and is given without that row."""
    rows = [{"q": " ".join(f"word{row}x{n}" for n in range(20)), "a": "5"} for row in range(3)]
    said = {"kind": "generation", "data": "rows.jsonl.gz", "split": "dev", "prompt": "q", "target": "a"}
    task = written(tmp_path, {**said, "metrics": {"exact_match": {}}, "max_tokens": 8}, rows)
    (tmp_path / "web.jsonl").write_text(
        "".join(json.dumps({"id": f"d{n}", "text": f"A page {n}. {rows[1]['q'] if n == 7 else ''}"}) + "\n" for n in range(30))
    )
    source = FilesSource(kind="jsonl", path=str(tmp_path / "web.jsonl"), license="CC0-1.0")
    decontamination = Decontamination(action="flag", held_back_hits=1000)
    data = Data(
        sources={"web": source}, mixes={"m": Mix(weights={"web": 1.0})}, dev_share=0.1, held_out_share=0.1,
        decontamination=decontamination,
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    prepare_corpus(data, evaluation_texts([task], 5), lambda name, source: [], tmp_path / "out", tmp_path / "scratch")
    trained = TrainingSet("documents", tmp_path / "out", frozenset({own.identity(task)}), 5, 10, True)
    flags = Flags([trained], (), 5)
    [record] = score(TableModel(lambda ids, token: 0.5, lambda prompt, t: "5$"), "m", "mine", "dev", found(task), 1)
    held = [flags.held(own.identity(task), "dev", example) for example in found(task)]
    assert [[leak.id for leak in leaks] for leaks in held] == [[], ["d7"], []]
    flagged = flags.flagged(record, held, own.identity(task)).contamination
    assert flagged and (flagged.kept, flagged.documents) == (1, ["web/d7"]) and flagged.without and flagged.without.n == 2
