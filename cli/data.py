"""`lehr dropped`: what was left out of documents, conversations and preferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say
from lehr.runtime.text import json_line

if TYPE_CHECKING:
    from lehr.artifacts.artifact import Artifact

DROPPED = "dropped.jsonl.gz"


def read_dropped(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a dropped-documents file, one JSON object a line. Raises UserError where one is damaged."""
    from lehr.runtime.json_files import read_rows

    return read_rows(path, "delete this artifact's folder and run the same command again")


def _sources(artifact: Artifact) -> dict[str, Any]:
    """What was counted of each source, also of those of which nothing was dropped."""
    from lehr.runtime.errors import UserError
    from lehr.runtime.json_files import read_object

    found = dict[str, Any]()
    for name in ("funnel.json", "sets.json"):
        path = artifact.path(name)
        try:
            found |= read_object(path, "") if path.is_file() else {}
        except UserError:  # damaged: those of the records count alone
            continue
    return found


def _passed_over(counted: dict[str, Any], source: str | None) -> Iterator[str]:
    """A line for each reason for which rows or files of a source could not be read."""
    for name, row in counted.items():
        passed: dict[str, Any] = row.get("passed_over", {}) if isinstance(row, dict) and source in (None, name) else {}
        for reason, number in passed.get("damaged", {}).items():
            yield f"{number:8,} {name}: could not be read: {reason}, first {passed['first'][reason]}"


def _known(what: str, wanted: str | None, known: set[str]) -> None:
    """Raises UserError for a name that stands nowhere: a misspelt one would read as `none were dropped`."""
    from lehr.runtime.errors import UserError

    if wanted and wanted not in known:
        remedy = f"{what}s are: {', '.join(sorted(known)) or 'none'}"
        raise UserError(f"no document was dropped with the {what} {wanted!r}", where=f"--{what}", remedy=remedy)


@click.command("dropped")
@click.argument("run_or_artifact", type=RUN)
@click.option("--reason", help="Only documents dropped for this reason, as the totals name it.")
@click.option("--source", help="Only documents of this source.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything that is known.")
def dropped(run_or_artifact: Where, reason: str | None, source: str | None, as_json: bool) -> None:
    """List the documents that were not trained on, each with its reason.

    RUN_OR_ARTIFACT is a run's folder, or an artifact of documents, conversations, preferences or prompts in it. One line per
    document or row: source, reason, id; the totals go to stderr, with what could not be read at all.

    \b
    Examples:
      lehr dropped runs/tiny-olmo2
      lehr dropped runs/tiny-olmo2 --reason 'one n-gram too often'
      lehr dropped runs/tiny-olmo2 --source plays --json | head -1
    """
    from lehr.cli.locate import with_file

    totals: Counter[tuple[str, str]] = Counter()
    reasons, sources, unread = set[str](), set[str](), list[str]()
    for artifact in with_file(run_or_artifact, DROPPED):
        counted = _sources(artifact)
        sources |= counted.keys()
        unread += [] if reason else _passed_over(counted, source)
        for record in read_dropped(artifact.path(DROPPED)):
            reasons.add(str(record.get("reason", "")))
            sources.add(str(record.get("source", "")))
            if (reason and record.get("reason") != reason) or (source and record.get("source") != source):
                continue
            totals[str(record.get("source", "")), str(record.get("reason", ""))] += 1
            fields = (str(record.get(key, "")).replace("\n", "\\n") for key in ("source", "reason", "id"))
            say(json_line(record) if as_json else "\t".join(fields))
    _known("reason", reason, reasons)
    _known("source", source, sources)
    for (of_source, why), count in sorted(totals.items()):
        say(f"{count:8,} {of_source}: {why}", err=True)
    say(f"{totals.total():8,} documents dropped", err=True)
    for line in unread:
        say(line, err=True)
