"""`lehr data funnel`, `sample` and `try`: what the filters make of documents, and what another threshold would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.places import RUN, Where
from lehr.cli.run import recipe_argument, set_option
from lehr.cli.say import say
from lehr.runtime.text import json_line

if TYPE_CHECKING:
    from lehr.artifacts.artifact import Artifact
    from lehr.config.data import Data
    from lehr.config.filters import FilterConfig
    from lehr.data.document import Document
    from lehr.data.verdict import Drop, Keep

_SHOWN = 160  # characters of a document


def _corpora(where: Where) -> list[Artifact]:
    from lehr.cli.locate import of_kinds

    return of_kinds(where, "documents")


@click.command("funnel")
@click.argument("run_or_artifact", type=RUN)
@click.option("--score", help="Of which score to show the distribution, such as gopher_quality.symbols.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def funnel(run_or_artifact: Where, score: str | None, as_json: bool) -> None:
    """Show how many documents of each source were kept, and why the others were not.

    RUN_OR_ARTIFACT is a run's folder, or its artifact of documents. With --score, what the filters measured: the score's value
    at the quantiles of each source, so that a threshold can be chosen without running again.

    \b
    Examples:
      lehr data funnel runs/tiny-olmo2
      lehr data funnel runs/tiny-olmo2 --score gopher_quality.stop_words
    """
    from lehr.analysis.documents import QUANTILES, distributions, judged
    from lehr.runtime.json_files import read_object

    for artifact in _corpora(run_or_artifact):
        if score:
            found = distributions(judged(artifact), score)
            if as_json:
                say(json_line({source: d._asdict() for source, d in found.items()}))
                continue
            rows = [[source, f"{d.documents:,}", *(f"{v:.4g}" for v in d.values)] for source, d in found.items()]
            say(_table(["source", "documents", *(f"{q} %" for q in QUANTILES)], rows))
            continue
        counts = read_object(artifact.path("funnel.json"), "delete this artifact and run the same command again")
        say(json_line(counts) if as_json else _funnel(counts))


def _funnel(counts: dict[str, Any]) -> str:
    lines = []
    for source, row in counts.items():
        lines.append(f"{source}: {row['read']:,} read, {row['kept']:,} kept ({_share(row['kept'], row['read'])})")
        for reason, number in sorted(row["dropped"].items(), key=lambda pair: -pair[1]):
            lines.append(f"  {number:10,} {_share(number, row['read']):>7}  {reason}")
        passed = row.get("passed_over", {})
        for reason, number in passed.get("damaged", {}).items():
            lines.append(f"  {number:10,} {'':>7}  could not be read: {reason}, first {passed['first'][reason]}")
        lines += [f"  {number:10,} {'':>7}  held no document: {what}" for what, number in passed.get("skipped", {}).items()]
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)


@click.command("sample")
@click.argument("run_or_artifact", type=RUN)
@click.option("--score", required=True, help="A score of the filters, such as gopher_quality.symbols.")
@click.option("--near", type=float, required=True, help="A threshold that is in force, or might be.")
@click.option("--rows", type=click.IntRange(1), default=10, show_default=True, help="Documents.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole text of those that were kept.")
def sample(run_or_artifact: Where, score: str, near: float, rows: int, as_json: bool) -> None:
    """Print the documents whose score is nearest to a threshold, kept and dropped ones.

    \b
    Example:
      lehr data sample runs/tiny-olmo2 --score gopher_quality.stop_words --near 2
    """
    from lehr.analysis.documents import judged, nearest

    for artifact in _corpora(run_or_artifact):
        for found in nearest(judged(artifact), score, near, rows):
            if as_json:
                say(json_line(found._asdict()))
                continue
            beginning = " ".join(found.text[:_SHOWN].split())
            say(f"{found.scores[score]:10.4g}  {found.source}/{found.id}: {found.reason or 'kept'}\n            {beginning}")


@click.command("try")
@recipe_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--source", help="Read the file as this source of the recipe: its text type and fields. Left out: texts of type prose."
)
@set_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: id, kept, reason, scores.")
def try_(recipe: Path, file: Path, source: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Run a recipe's filters on a file, and say of every document whether it is kept, or why not.

    A line a document: id, `kept` or the reason, and what the filter that dropped it measured; --json has all scores. FILE may
    be whatever a source of kind `files` may name. Totals by reason go to stderr. Models of `data.models` that filters name are
    trained first, from the recipe's sources. Nothing is left behind.

    \b
    Examples:
      lehr data try tiny/olmo2 texts.jsonl
      lehr data try tiny/olmo2 texts.jsonl --json
    """
    from collections import Counter

    from lehr.data.verdict import Drop

    totals: Counter[str] = Counter()
    for document, verdict in _tried(recipe, file, source, overrides):
        reason = verdict.reason if isinstance(verdict, Drop) else ""
        totals[reason] += 1
        if as_json:
            row: dict[str, Any] = {"id": document.id, "kept": not reason, "reason": reason, "scores": dict(verdict.scores)}
            say(json_line(row))
        else:
            fields = [document.id.replace("\n", "\\n"), reason or "kept"]
            say("\t".join([*fields, _last_scores(verdict)] if reason else fields))
    for reason, number in totals.most_common():
        say(f"{number:8,} {reason or 'kept'}", err=True)


def _last_scores(verdict: Keep | Drop) -> str:
    """Those of the filter that dropped the document: scores begin with their filter's name, and come in the filters' order."""
    last = next(reversed(dict(verdict.scores)), "").partition(".")[0]
    return " ".join(f"{name}={value:.4g}" for name, value in verdict.scores.items() if name.partition(".")[0] == last)


def _tried(recipe: Path, file: Path, source: str | None, overrides: tuple[str, ...]) -> Iterator[tuple[Document, Keep | Drop]]:
    from lehr.config import load_recipe
    from lehr.config.sources import FilesSource
    from lehr.data.document import chunk
    from lehr.data.filters import filters
    from lehr.data.readers import Damage, inputs, read
    from lehr.runtime.errors import UserError

    resolved = load_recipe(recipe, overrides)
    config = resolved.data
    if config is None:
        raise UserError("this recipe has no `data`", where=recipe, remedy="name one that has filters")
    if source and source not in config.sources:
        known = ", ".join(config.sources)
        raise UserError(f"the recipe has no source {source!r}", where="--source", remedy=f"its sources are: {known}")
    like = config.sources[source] if source else None
    path = str(file.absolute())
    if isinstance(like, FilesSource):
        given = like.model_copy(update={"path": path})
    else:
        given = FilesSource(kind="files", path=path, license="unknown", text_type="prose")
    found = list(inputs(given))  # before models are trained: there may be none
    with TemporaryDirectory() as place:
        judge = filters(_with_trained_models(config, resolved.seed, Path(place)))
        for each in found:
            for whole in read(source or "file", given, each, Damage()):
                for document in chunk(whole, config.chunk_characters):
                    yield document, judge(document)


def _with_trained_models(data: Data, seed: int, place: Path) -> Mapping[str, FilterConfig]:
    """The filters with the models of `data.models` that they name, trained in `place` as a run would."""
    from lehr.artifacts.artifact import Artifact
    from lehr.artifacts.folder_store import LocalStore
    from lehr.data.filter_models import with_models
    from lehr.pipeline.attempt import StageContext
    from lehr.pipeline.registry import stage
    from lehr.pipeline.run import run_stage
    from lehr.pipeline.text_models import text_models
    from lehr.stages.documents import MODEL

    context, folders = StageContext(LocalStore(place)), dict[str, Path]()
    for node in text_models(data, seed):
        say(f"{node.name}: trained first", err=True)
        spec = stage(node.kind)
        ref = run_stage(spec, node.name, node.config, spec.inputs({}), context)
        folders[node.name.removeprefix(MODEL)] = Artifact.open(context.fetch(ref.uri), uri=ref.uri).folder
    return with_models(data.filters, folders)
