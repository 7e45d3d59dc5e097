"""Word problems with the programs that solve them: one's own from JSON lines, or the built-in ones, checked by running them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from lehr.artifacts.artifact import sha256_text
from lehr.config.sources import Programs
from lehr.data.damage import Damage, Damaged
from lehr.data.lines import lines
from lehr.data.readers.formats import named
from lehr.data.rows import parsed, unicode
from lehr.data.supplied import DataFile, supplied
from lehr.data.synthetic.interpreter import Program, Unrunnable, written
from lehr.data.votes import majority
from lehr.runtime.errors import UserError

_LONGEST = 1 << 20  # bytes of a row
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_REMEDY = 'write rows like {"question": "Tom has 3 pens and buys 4 more. How many has he?", "program": "pens = 3 + 4"}'


class Seed(NamedTuple):
    """A problem that was solved by running its program."""

    id: str
    question: str
    program: Program
    keep: frozenset[Fraction]


def seed_files(path: str) -> list[DataFile]:
    """The files of JSON lines that a source of programs names. Raises UserError if there are none."""
    found = supplied(path, lambda inside: [n for n in inside if named(n) == "jsonl"], list)
    if not found:
        raise UserError("no JSON lines there", where=path, remedy="name a file of problems with programs")
    return found


def digest(path: str) -> str:
    """What tells the content of these files. Raises UserError for a missing one."""
    files = seed_files(path)
    if missing := next((file.where for file in files if not file.digest()), ""):
        raise UserError("there is no such file", where=missing, remedy="correct the source's programs.path")
    return sha256_text(" ".join(file.digest() for file in files))


def seeds(config: Programs, refused: Counter[str]) -> Iterator[Seed]:
    """Those whose program runs, and gives the answer that their row says, if it says one. `refused` counts the others by
    reason. Raises Damaged for a row that is none, unless such rows are passed over."""
    damage = Damage(stops=config.bad_rows == "stop")
    for where, row in _rows(config, damage):
        try:
            yield _checked(where, row, config.majority_of)
        except Unrunnable as error:
            refused[str(error)] += 1
        except Damaged as error:
            damage.met(error)
    refused.update(damage.counts)


def _rows(config: Programs, damage: Damage) -> Iterator[tuple[str, dict[str, Any]]]:
    if not config.path:
        from lehr.data.synthetic.seed_problems import PROBLEMS

        for number, (question, program) in enumerate(PROBLEMS):
            yield f"built-in {number}", {"question": question, "program": program}
        return
    for file in seed_files(config.path):
        for number, raw in lines(file.local(), _LONGEST, shown=file.where, met=damage.met):
            where = f"{file.where}:{number}"
            try:
                yield where, parsed(raw, where)
            except Damaged as error:
                damage.met(error)


def _checked(where: str, row: dict[str, Any], majority_of: int) -> Seed:
    """Raises Damaged for a row without what is needed, Unrunnable for one that cannot be used."""
    question = row.get("question")
    sources = row.get("programs", [row["program"]] if "program" in row else None)
    if not isinstance(question, str) or not question.strip() or not isinstance(sources, list) or not sources:
        raise Damaged("no question with a program", "no `question` with a `program`", where=where, remedy=_REMEDY)
    keep = row.get("keep", [])
    if not all(isinstance(source, str) for source in sources) or not isinstance(keep, list):
        raise Damaged("no question with a program", "a `program` is no text, or `keep` no list", where=where, remedy=_REMEDY)
    program, result = _elected([unicode(source, "program", where) for source in sources], majority_of)
    if "answer" in row and _said(row["answer"]) != result:
        raise Unrunnable("another answer than the row's")
    id_ = str(row["id"]) if row.get("id") is not None else f"{where.rpartition('/')[2]}"
    return Seed(id_, unicode(question.strip(), "question", where), program, frozenset(map(_kept, keep)))


def _elected(sources: list[str], majority_of: int) -> tuple[Program, Fraction]:
    """The program, or of several the first that gives the result of more than half of them."""
    if len(sources) < majority_of:
        raise Unrunnable("fewer programs than majority_of")
    ran, reasons = list[tuple[Program, Fraction] | None](), list[str]()
    for source in sources:
        try:
            program = Program.of(source)
            ran.append((program, program.run()[-1].value))
        except Unrunnable as error:
            ran.append(None)
            reasons.append(str(error))
    if len(sources) == 1 and reasons:
        raise Unrunnable(reasons[0])
    results = [str(each[1]) if each else "" for each in ran]
    elected = majority(results)
    if not elected:
        raise Unrunnable("no majority among the programs")
    chosen = ran[results.index(elected)]
    assert chosen is not None
    if written(chosen[1]) is None:
        raise Unrunnable("a result of endless decimals")
    return chosen


def _said(answer: Any) -> Fraction | None:
    """The number of a row's answer: itself, or the last of a text, as after GSM8K's `####`."""
    found = _NUMBER.findall(str(answer))
    return Fraction(found[-1].replace(",", "")) if found and not isinstance(answer, bool) else None


def _kept(value: Any) -> Fraction:
    said = _said(value)
    return Fraction(-1) if said is None else said
