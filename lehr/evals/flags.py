"""Contamination flags: which examples of a score stand in training documents, and what the score is without them.

Whoever prepared documents, conversations, preferences or prompts compared them with evaluation texts and wrote down what they
hold (lehr.data.leaks). Here that is read again, example by example. An example counts as contaminated if a document that stayed
in the training set holds it; what only removed documents held is said too, and changes no score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import Artifact
from lehr.data.leaks import Leak, read_leaks, text_key
from lehr.evals.contamination import compared_text
from lehr.evals.flagged import Contamination, Without
from lehr.evals.parts import estimate, places_of_parts, subset
from lehr.evals.suites import NEEDS_ABOUT, NEEDS_CORPUS, NEEDS_PAIRS
from lehr.evals.task import Choice, Document, Example, Items, Part, Record, Text
from lehr.runtime.errors import UserError

SHOWN = 20  # documents that a score names; all of them stand in a file of their own
NOT_COMPARED = NEEDS_PAIRS | NEEDS_ABOUT  # their texts do not exist yet when documents are prepared


@dataclass(frozen=True)
class TrainingSet:
    """What a model was trained on: an artifact's folder, and with which tasks it was compared, in which wording (their `seed`)
    and by n-grams of how many words. `held_back`: it held documents back and was compared with them."""

    stage: str
    folder: Path
    tasks: frozenset[str]
    seed: int
    ngram: int
    held_back: bool

    @classmethod
    def of(cls, artifact: Artifact) -> TrainingSet:
        """An artifact of documents, conversations, preferences or prompts. Of one that was compared with nothing `tasks` are
        none."""
        config: dict[str, Any] = artifact.manifest.config
        config = {**config, **(config.get("prompts") or {})} if artifact.manifest.kind == "preferences" else config
        data = config.get("data", {}).get("decontamination", {})
        return cls(
            artifact.manifest.stage, artifact.folder, frozenset(config.get("decontaminate") or ()),
            int(config.get("evaluation_seed", -1)), int(data.get("ngram") or config.get("ngram") or 0), bool(data),
        )  # fmt: skip

    def compared_with(self, task: str, seed: int) -> bool:
        """Whether it was compared with the task's examples in their wording of `seed`."""
        if self.held_back and task in NEEDS_CORPUS:
            return True
        return task in self.tasks - NOT_COMPARED and seed == self.seed

    def key(self, task: str, split: str, example: Example) -> tuple[str, str]:
        """Under which task and key its record has an example."""
        if self.held_back and task in NEEDS_CORPUS and isinstance(example, Text | Choice | Document):
            return f"{split} documents", example.family
        return task, text_key(compared_text(task, example, self.ngram))


@dataclass
class Flags:
    """Looks the examples of scores up in the records of `sets`. `others` are words for what else was learned from."""

    sets: Sequence[TrainingSet]
    others: Sequence[str]
    seed: int
    _leaks: dict[str, dict[tuple[str, str], list[Leak]]] = field(default_factory=dict)
    _unread: dict[str, str] = field(default_factory=dict)  # sets whose record cannot be read, and why

    def __post_init__(self) -> None:
        for one in self.sets:
            found: dict[tuple[str, str], list[Leak]] = {}
            try:
                for leak in read_leaks(one.folder):
                    found.setdefault((leak.task, leak.key), []).append(leak)
            except UserError as error:
                self._unread[one.stage] = error.what
            self._leaks[one.stage] = found

    def held(self, task: str, split: str, example: Example) -> list[Leak]:
        """The documents that hold an example, those that stayed first."""
        found = {
            (leak.source, leak.id): leak
            for one in self.sets
            if one.compared_with(task, self.seed)
            for leak in self._leaks[one.stage].get(one.key(task, split, example), [])
        }
        return sorted(found.values(), key=lambda leak: (not leak.kept, leak.source, leak.id))

    def flagged(self, record: Record, held: Sequence[Sequence[Leak]], task: str = "") -> Record:
        """The record with its flags; `held` are the documents that hold each of its examples. `task`: the identity of one of
        one's own (lehr.evals.own), which the record knows by its name."""
        compared = [one.stage for one in self.sets if self._knows(one, task or record.task)]
        others = [*(one.stage for one in self.sets if one.stage not in compared), *self.others]
        if not compared:
            return record.model_copy(update={"contamination": Contamination(compared=[], not_compared=others)})
        stayed = [any(leak.kept for leak in leaks) for leaks in held]
        leaks = {f"{leak.source}/{leak.id}": leak for those in held for leak in those}
        names = sorted(leaks, key=lambda name: (not leaks[name].kept, name))
        said = Contamination(
            compared=compared, not_compared=others, kept=sum(stayed), removed=sum(map(bool, held)) - sum(stayed),
            documents=names[:SHOWN], document_count=len(names),
            without=_without(record.items, stayed) if record.items and any(stayed) else None,
        )  # fmt: skip
        return record.model_copy(update={"contamination": said, "parts": _flagged_parts(record, stayed)})

    def _knows(self, one: TrainingSet, task: str) -> bool:
        return one.stage not in self._unread and one.compared_with(task, self.seed)


def _flagged_parts(record: Record, contaminated: Sequence[bool]) -> list[Part]:
    """Each source and domain with its own texts' flags."""
    if record.items is None or not record.parts:
        return record.parts
    found = []
    for part, (_, _, places) in zip(record.parts, places_of_parts(record.items), strict=True):
        bad = [contaminated[place] for place in places]
        without = _without(subset(record.items, places), bad) if any(bad) else None
        found.append(part.model_copy(update={"kept": sum(bad), "without": without}))
    return found


def _without(items: Items, contaminated: Sequence[bool]) -> Without | None:
    """The score over the other examples; None if there are none that count."""
    left = [number for number, bad in enumerate(contaminated) if not bad and (not items.weights or items.weights[number])]
    return Without(**estimate(subset(items, left))._asdict()) if left else None


def rows_of(task: str, split: str, held: Sequence[Sequence[Leak]], found: Sequence[Example] = ()) -> list[dict[str, Any]]:
    """A row for each example that a document holds, with all of these: `kept` ones are those that stayed in training. Of texts
    that have sources with their source and domain; of whole paragraphs with the first one that each document shares."""
    rows = []
    for number, leaks in enumerate(held):
        if leaks:
            names = {stay: [f"{leak.source}/{leak.id}" for leak in leaks if leak.kept == stay] for stay in (True, False)}
            row = {"task": task, "split": split, "example": number, "kept": names[True], "removed": names[False]}
            one = found[number] if found else None
            if isinstance(one, Document) and one.source:
                row |= {"source": one.source, "domain": one.domain}
            if paragraphs := {f"{leak.source}/{leak.id}": leak.paragraph for leak in leaks if leak.paragraph}:
                row |= {"paragraphs": paragraphs}
            rows.append(row)
    return rows
