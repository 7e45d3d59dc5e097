"""`lehr dropped`: what the data stage left out."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

DROPPED = "dropped.jsonl.gz"


def read_dropped(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a dropped-documents file, one JSON object a line. Raises UserError where one is damaged."""
    from lehr.errors import UserError

    remedy = "delete this artifact's folder and run the same command again"
    whole = 0  # lines read without a fault
    try:
        with gzip.open(path, "rt", encoding="utf-8") as f:
            for line in f:
                yield json.loads(line)
                whole += 1
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"damaged list of dropped documents ({error})", where=f"{path}:{whole + 1}", remedy=remedy) from None


def _known(key: str, wanted: str, paths: list[Path]) -> None:
    """Raises UserError where no dropped document has that reason or source."""
    from lehr.errors import UserError

    there = sorted({str(record.get(key, "")) for path in paths for record in read_dropped(path)})
    if wanted not in there:
        raise UserError(f"nothing was dropped with --{key} {wanted!r}", remedy=f"those are: {', '.join(there) or 'none'}")


@click.command("dropped")
@click.argument("run_or_artifact", type=click.Path(path_type=Path))
@click.option("--reason", help="Only documents dropped for this reason.")
@click.option("--source", help="Only documents of this source.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything that is known.")
def dropped(run_or_artifact: Path, reason: str | None, source: str | None, as_json: bool) -> None:
    """List the documents that were not trained on, each with its reason.

    RUN_OR_ARTIFACT is a run's folder, or a documents artifact in it. One line per document: source, reason, id;
    the totals go to stderr.

    \b
    Examples:
      lehr dropped runs/tiny-olmo2
      lehr dropped runs/tiny-olmo2 --reason 'exact duplicate'
      lehr dropped runs/tiny-olmo2 --source plays --json | head -1
    """
    from cli.locate import with_file
    from cli.tables import printable

    totals: Counter[tuple[str, str]] = Counter()
    found = with_file(run_or_artifact, DROPPED)
    for key, wanted in (("reason", reason), ("source", source)):
        if wanted:
            _known(key, wanted, [artifact.path(DROPPED) for artifact in found])
    for artifact in found:
        for record in read_dropped(artifact.path(DROPPED)):
            if (reason and record.get("reason") != reason) or (source and record.get("source") != source):
                continue
            totals[str(record.get("source", "")), str(record.get("reason", ""))] += 1
            fields = (printable(record.get(key, "")).replace("\n", "\\n") for key in ("source", "reason", "id"))
            click.echo(json.dumps(record, ensure_ascii=False) if as_json else "\t".join(fields))
    for (of_source, why), count in sorted(totals.items()):
        click.echo(f"{count:8,} {printable(of_source)}: {printable(why)}", err=True)
    click.echo(f"{totals.total():8,} documents dropped", err=True)
