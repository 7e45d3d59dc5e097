"""Held-out examples: a type that gives them to scoring only for a finished model, and only once that is written down.

Decisions are made by dev examples. Held-out ones tell how good the decided thing is, once; every further model that is scored
on them and chosen by that wears them out (OLMo 2 section 2.5), so who opened them, when and for which model is kept.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lehr.artifacts.artifact import LOGS, ArtifactRef
from lehr.evals.task import Example
from lehr.runtime.redaction import masked

OPENINGS = "openings.jsonl"  # under LOGS of scores, which are left out of their digest: there are times and names in it
USER = "LEHR_USER"
Unscored = Literal["decontamination", "lengths", "baselines"]  # what else reads the examples, and scores no model with them
_LONGEST = 500  # characters of a command


class Opening(BaseModel):
    """A line of `openings.jsonl`: held-out examples of a task became readable for scoring `model`, the artifact of `digest`.
    `examples` is the digest of these `n`, of at most `limit`; `when` is UTC, `who` a user's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    who: str
    model: str
    digest: str
    task: str
    examples: str
    n: int
    limit: int
    command: str


def user() -> str:
    """Who is at work: LEHR_USER, else the operating system's name, else its number (in a container)."""
    try:
        return os.environ.get(USER) or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def command() -> str:
    """This process's command without secrets."""
    return masked(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))[:_LONGEST]


@dataclass(frozen=True)
class Ledger:
    """The openings for one model's scores. `file` survives kills; None on ranks other than the first, which write nothing."""

    file: Path | None
    who: str
    command: str

    def record(self, opening: Opening) -> None:
        """Append it, on the disk before this returns, unless the same examples were opened for the same model: an attempt
        that goes on after a kill opens nothing anew. Raises OSError if it cannot be written: then nothing is opened."""
        if self.file is None or any(_same(opening, known) for known in read_openings(self.file)):
            return
        line = opening.model_dump_json() + "\n"
        with self.file.open("ab+") as file:
            if file.tell() and not _ends_a_line(self.file):  # the disk was full in the middle of a line
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_a_line(path: Path) -> bool:
    return path.read_bytes()[-1:] == b"\n"


def _same(one: Opening, other: Opening) -> bool:
    return (one.digest, one.task, one.examples) == (other.digest, other.task, other.examples)


@dataclass(frozen=True)
class HeldOut:
    """The held-out examples of a task: their number and digest, but not the examples."""

    task: str
    limit: int
    _examples: Sequence[Example] = field(repr=False)

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def digest(self) -> str:
        return digest_of(self._examples)

    def open(self, artifact: ArtifactRef, model: str, ledger: Ledger) -> list[Example]:
        """The examples, to score `artifact` with, which is called `model`, after that is in the ledger."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        ledger.record(
            Opening(
                when=now, who=ledger.who, model=model, digest=artifact.digest, task=self.task, examples=self.digest,
                n=len(self), limit=self.limit, command=ledger.command,
            )
        )  # fmt: skip
        return list(self._examples)

    def unscored(self, purpose: Unscored) -> list[Example]:
        """The examples, for what scores no model that anybody could choose by them: the comparison with training documents,
        the lengths of prompts, baselines that are counted beside a score."""
        del purpose  # read in the source, by tests/evals/test_held_out.py
        return list(self._examples)


def opened(found: Sequence[Example] | HeldOut, artifact: ArtifactRef, model: str, ledger: Ledger) -> list[Example]:
    """What `examples` returned: development examples as they are, held-out ones after an entry in the ledger."""
    return found.open(artifact, model, ledger) if isinstance(found, HeldOut) else list(found)


def unscored(found: Sequence[Example] | HeldOut, purpose: Unscored) -> list[Example]:
    """The same for what scores no model (`HeldOut.unscored`)."""
    return found.unscored(purpose) if isinstance(found, HeldOut) else list(found)


def digest_of(examples: Sequence[Example]) -> str:
    """Equal for equal examples in the same order."""
    return hashlib.sha256(repr(list(examples)).encode()).hexdigest()


def read_openings(path: Path) -> list[Opening]:
    """The lines of a file, none where there is none. A line that was cut off by a full disk is passed over: its examples were
    not opened, or are in a later line."""
    return list(_lines(path)) if path.is_file() else []


def _lines(path: Path) -> Iterator[Opening]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row: Any = json.loads(line)
            yield Opening.model_validate(row)
        except (ValueError, ValidationError):
            continue


def openings_of_run(folder: Path) -> list[Opening]:
    """All openings for models of the run in a folder, oldest first: of its own scores, finished or not, of `lehr eval` into its
    folder, and of `lehr eval` into other folders, which are in a file of their own."""
    patterns = (f"artifacts/*/{LOGS}/{OPENINGS}", f"work/*/{OPENINGS}", f"work/*/out-*/{LOGS}/{OPENINGS}")
    paths = [path for root in (folder, folder / "evals") for pattern in patterns for path in sorted(root.glob(pattern))]
    return in_order([opening for path in [*paths, folder / OPENINGS] for opening in read_openings(path)])


def in_order(openings: Iterable[Opening]) -> list[Opening]:
    """Each once, oldest first."""
    return sorted(dict.fromkeys(openings), key=lambda o: o.when)


def often_opened(openings: Sequence[Opening]) -> list[str]:
    """A sentence for each number of openings and models, of the tasks that were opened for several models."""
    counts: dict[tuple[int, int], list[str]] = {}
    for task in dict.fromkeys(o.task for o in openings):
        own = [o for o in openings if o.task == task]
        counts.setdefault((len(own), len({o.digest for o in own})), []).append(task)
    return [
        f"held-out examples of {', '.join(tasks)} have been opened {times} times for {models} models of this run: what is "
        "chosen by them is no longer held out"
        for (times, models), tasks in counts.items()
        if models > 1
    ]
