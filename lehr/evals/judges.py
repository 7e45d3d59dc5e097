"""Judges and classifiers of answers, asked by one rank for all, and before anything is generated."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lehr.config.judged_checks import JudgeCheck, metric_names
from lehr.distributed.ranks import Ranks
from lehr.evals import own
from lehr.evals.classified import Classifying
from lehr.evals.judge import JudgeServer
from lehr.evals.judged import Gave, Judged, ToJudge
from lehr.post.chat_model import KeptRows
from lehr.post.engine_client import ATTEMPTS
from lehr.runtime.errors import InfraError, LehrError, UserError, from_words, in_words

FILE = "judged.jsonl"  # beside the items of scores: what judges said, a line for each reply
_PROBES = 3  # requests, about 2 s


def _asked(to: ToJudge, kept: KeptRows, attempts: int = ATTEMPTS) -> JudgeServer | Classifying:
    if isinstance(to.check, JudgeCheck):
        return JudgeServer(to.check, kept, attempts)
    return Classifying(to.check, kept, attempts)


def probe(tasks: Iterable[str]) -> None:
    """Ask every judge and classifier of these tasks a word. Raises UserError for one that is missing, refuses or answers
    something else: now, and not after the model has generated its answers."""
    for task in tasks:
        examples = own.loaded(task).examples if own.is_own(task) else ()
        for to in examples[0].by if examples and isinstance(examples[0], Judged) else ():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    _asked(to, KeptRows(Path(folder) / FILE), _PROBES).probe()
                except InfraError as error:
                    remedy = f"start the server, or correct metrics.{to.name} of {task}"
                    raise UserError(str(error), where=own.name_of(task), remedy=remedy) from None


class Judges:
    """See lehr.evals.judged.Judging. `folder` keeps what they said; `note` is told what is asked."""

    def __init__(self, ranks: Ranks, folder: Path, note: Callable[[str], None] = lambda words: None) -> None:
        self._ranks, self._kept, self._note = ranks, KeptRows(folder / FILE), note
        self._about: dict[str, Any] = {}

    def begin(self, task: str, split: str) -> None:
        """What comes next is of this task."""
        self._about = {"task": task, "split": split}

    def values(self, examples: Sequence[Judged], parts: Mapping[str, Sequence[str]]) -> dict[str, Gave]:
        told: dict[str, Any] = {}
        if self._ranks.first:
            try:
                told["found"] = self._values(examples, parts)
            except LehrError as error:  # the other ranks are waiting
                told["words"] = in_words(error)
        told = self._ranks.gather(told)[0]
        if "words" in told:
            raise from_words(told["words"])
        found: dict[str, Gave] = told["found"]
        return found

    def _values(self, examples: Sequence[Judged], parts: Mapping[str, Sequence[str]]) -> dict[str, Gave]:
        found: dict[str, Gave] = {}
        for number, to in enumerate(examples[0].by):
            asked, rows = _asked(to, self._kept), [example.by[number] for example in examples]
            for way, texts in parts.items():
                about = {**self._about, **({"way": way} if way else {})}
                times = len(texts) // len(examples)
                names = metric_names(to.name, to.check.model_dump(), times)
                gave = asked.values(rows, texts, about, self._note)
                found |= {f"{name}@{way}" if way else name: one for name, one in zip(names, gave, strict=False)}
        return found

    def write(self, out: Path) -> None:
        """Into `out`, in an order that the threads which asked have no part in; nothing where nobody was asked."""
        rows = self._kept.read() if self._ranks.first else []
        if rows:
            rows.sort(key=_order)
            (out / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    place = (row["task"], row["split"], row.get("way", ""), row["example"], row["answer"])
    return (*place, row.get("sample", 0), row.get("swapped", False), row["key"])
