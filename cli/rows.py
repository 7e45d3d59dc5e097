"""`lehr data show`: conversations and preferences as training reads them, with the trained tokens marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.artifacts.artifact import Artifact
    from lehr.data.tokenizer import Tokenizer
    from lehr.post.rendered import Rendered

_OPEN, _CLOSE = "⟦", "⟧"


@click.group("data")
def data() -> None:
    """What a run is trained on: which documents were kept and why, and rows of post-training as they are rendered."""


@data.command("show")
@click.argument("run_or_artifact", type=RUN)
@click.option("--step", help="Only the rows of this step, as the recipe names it. [default: all]")
@click.option("--rows", type=click.IntRange(1), default=3, show_default=True, help="Rows of each step.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first row, from 0.")
def show_rows(run_or_artifact: Where, step: str | None, rows: int, first: int) -> None:
    """Print rows as they are rendered for training, special tokens and all; what is trained stands in ⟦ ⟧.

    RUN_OR_ARTIFACT is a run's folder, or an artifact of conversations, preferences or prompts in it: `lehr run` prepares them
    before it trains, and an interrupted run is enough. The totals of each set go to stderr.

    \b
    Examples:
      lehr data show runs/mine
      lehr data show runs/mine --step sft --rows 10
      lehr data show runs/mine --step dpo
    """
    from lehr.runtime.errors import UserError

    wanted, shown = _read_by(run_or_artifact, step), 0
    for artifact in _with_rows(run_or_artifact):
        name = artifact.manifest.stage
        if step and name not in wanted:
            continue
        shown += 1
        say(f"{name} ({artifact.folder.name})", err=True)
        _totals(artifact)
        for number, text in enumerate(_texts(artifact, first, rows), first):
            say(f"--- {name} {number}")
            say(text)
    if not shown:
        raise UserError(f"no rows of a step {step!r}", where=str(run_or_artifact), remedy="leave --step out to see all")


def _read_by(where: Where, step: str | None) -> set[str]:
    """The names that a step's rows can have: by its own name, and those that its model was made from."""
    from lehr.cli.locate import find_stage
    from lehr.runtime.errors import UserError

    if not step:
        return set()
    try:
        parents = {parent.stage for parent in find_stage(where, step).manifest.parents}
    except UserError:  # not finished
        parents = set()
    return {step, f"{step}-rows", f"{step}-pairs", *parents}


def _with_rows(where: Where) -> list[Artifact]:
    from lehr.cli.locate import of_kinds

    return of_kinds(where, "conversations", "preferences", "prompts")


def _totals(artifact: Artifact) -> None:
    from lehr.runtime.json_files import read_object

    path = artifact.path("sets.json")
    if not path.is_file():
        return
    for name, counts in read_object(path, "delete this artifact and run the same command again").items():
        dropped = sum(counts["dropped"].values())
        say(
            f"{counts['drawn']:10,} rows {counts['trained_tokens']:12,} trained tokens {counts['share']:7.1%}  {name}"
            + (f" ({dropped:,} of {counts['read']:,} dropped: lehr dropped)" if dropped else ""),
            err=True,
        )


def _texts(artifact: Artifact, first: int, count: int) -> Iterator[str]:
    if artifact.manifest.kind == "conversations":
        from lehr.data.tokenizer import Tokenizer
        from lehr.post.sets.pool import Pool

        pool, tokenizer = Pool(artifact.folder), Tokenizer.load(artifact.folder)
        return (marked(pool[i], tokenizer) for i in range(first, min(first + count, len(pool))))
    name = "prompts.jsonl" if artifact.manifest.kind == "prompts" else "pairs.jsonl"
    return _in_words(artifact.path(name), first, count)


def marked(row: Rendered, tokenizer: Tokenizer) -> str:
    """A row's text, with special tokens, and brackets around what is trained. Each run of tokens is decoded by itself."""
    out = []
    for trained, ids in _runs(zip(row.ids, row.mask, strict=True)):
        text = tokenizer.decode(ids, skip_special=False)
        out.append(f"{_OPEN}{text}{_CLOSE}" if trained else text)
    return "".join(out)


def _runs(tokens: Iterable[tuple[int, bool]]) -> Iterator[tuple[bool, list[int]]]:
    from itertools import groupby

    return ((trained, [i for i, _ in run]) for trained, run in groupby(tokens, key=lambda pair: pair[1]))


def _in_words(path: Path, first: int, count: int) -> Iterator[str]:
    """Pairs of answers, or prompts with their verifiers."""
    import json
    from itertools import islice

    from lehr.runtime.json_files import read_rows

    for row in islice(read_rows(path, "delete this artifact and run the same command again"), first, first + count):
        turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["prompt"])
        if "verifier" in row:
            said = f"verifier: {row['verifier']} {json.dumps(row['arguments'], ensure_ascii=False)}"
            yield f"{turns}\n{said if row['verifier'] else 'no verifier: for reward models'}"
        else:
            yield f"{turns}\nchosen: {_OPEN}{row['chosen']}{_CLOSE}\nrejected: {_OPEN}{row['rejected']}{_CLOSE}"
