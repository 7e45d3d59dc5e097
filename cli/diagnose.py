"""`lehr diagnose`: properties of a model before it is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say

if TYPE_CHECKING:
    from torch import Tensor

    from lehr.analysis.initialisation import Growth


@click.group("diagnose")
def diagnose() -> None:
    """Look into models before they are trained."""


@diagnose.command("init")
@click.option("--widths", default="128,256,512", show_default=True, help="Model widths, comma separated, multiples of 64.")
@click.option("--layers", type=click.IntRange(min=2), default=32, show_default=True, help="Blocks of each model.")
@click.option("--documents", type=click.IntRange(min=1), default=50, show_default=True, help="How many documents to pass.")
@click.option("--length", type=click.IntRange(min=8), default=32, show_default=True, help="Bytes of each document.")
@click.option("--text", type=LOCAL, help="JSON lines with the documents (.gz too); default: texts that come with Lehr.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights.")
@click.option("--out", type=LOCAL, help="Write a page with the curves here.")
@click.option("--json", "as_json", is_flag=True, help="Print records instead of a table.")
def init(
    widths: str, layers: int, documents: int, length: int, text: Path | None, seed: int, out: Path | None, as_json: bool
) -> None:
    """Compare how initialisations carry signal through depth.

    Repeats the comparison of OLMo 2 section 3.2: growth exponents of activations and gradients of freshly initialised
    OLMo 0424 and OLMo 2 models over a sweep of widths, and how their norms go with the square root of the width. Bytes
    stand for tokens: at initialisation one embedding row is as random as another. The final layer is read behind the
    final norm; "stream" is read before it. A width twice as large takes four times as long: 1024 needs 10 minutes of two cores.

    \b
    Example:
      lehr diagnose init --widths 128,256,512 --out init.html
    """
    from rich.progress import track

    from lehr.analysis.initialisation import growth, schemes
    from lehr.artifacts.artifact import write_atomic

    sweep = _widths(widths)
    tokens = _documents(text, documents, length)
    jobs = [(name, config) for width in sweep for name, config in schemes(layers, width, length, 256).items()]
    shown = jobs if as_json else track(jobs, "measuring", transient=True)
    found = [growth(name, config, tokens, seed) for name, config in shown]
    if as_json:
        say(json.dumps([vars(g) for g in found], indent=1))
    else:
        _table(found)
    if out is not None:
        from lehr.report.diagnosis import diagnosis_page

        described = f"{layers} layers, {documents} documents of {length} bytes, seed {seed}. " + ". ".join(verdict(found)) + "."
        write_atomic(out, diagnosis_page(found, described))
        say(f"page: {out}", err=as_json)


def _widths(text: str) -> list[int]:
    from lehr.runtime.errors import UserError

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--widths {text!r} are not numbers", remedy="write them as 128,256,512") from None
    wrong = [w for w in found if w < 64 or w % 64]
    if wrong:
        raise UserError(f"--widths: {wrong[0]} is no multiple of 64", remedy="heads have 64 dimensions: give multiples of 64")
    return found


def _documents(path: Path | None, count: int, length: int) -> list[Tensor]:
    import torch

    from lehr.config.shipped import FOLDER
    from lehr.data.document import read_jsonl
    from lehr.runtime.errors import UserError

    source = path or FOLDER / "data" / "factbook.jsonl.gz"
    found = []
    for document in read_jsonl(source, source.stem):
        raw = document.text.encode()
        if len(raw) > length:
            found.append(torch.tensor(list(raw[: length + 1])))
        if len(found) == count:
            return found
    raise UserError(
        f"only {len(found)} documents have more than {length} bytes", where=source, remedy="ask for fewer or shorter ones"
    )


def _table(found: list[Growth]) -> None:
    from rich.table import Table

    from lehr.analysis.initialisation import sqrt_width_power
    from lehr.cli.tables import console

    head = "act. λ", "grad. λ", "act. norm", "grad. norm", "stream act. λ", "grad. λ"
    table = Table("scheme", "width", *head, box=None)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for g in found:
        exponents = f"{g.activation_exponent:+.3f}", f"{g.gradient_exponent:+.3f}"
        stream = f"{g.stream_activation_exponent:+.3f}", f"{g.stream_gradient_exponent:+.3f}"
        table.add_row(g.scheme, str(g.width), *exponents, f"{g.activation_norm:.3g}", f"{g.gradient_norm:.2g}", *stream)
    console().print(table)
    for name in dict.fromkeys(g.scheme for g in found):
        mine = [g for g in found if g.scheme == name]
        if len(mine) > 1:
            pair = [sqrt_width_power(mine, f"{kind}_norm") for kind in ("activation", "gradient")]
            say(f"{name}: norms go with sqrt(width) to the power {pair[0]:.2f} (activations), {pair[1]:.2f} (gradients)")
    for line in verdict(found):
        say(line)


def verdict(found: Sequence[Growth]) -> list[str]:
    """What the measurement says of the report's claim, a sentence each for activations and gradients."""
    from lehr.analysis.initialisation import NEW, OLD, nearer_to_zero

    lines = []
    for kind in ("activation", "gradient"):
        holds = nearer_to_zero(found, f"{kind}_exponent")
        where = ", ".join(str(w) for w, nearer in holds.items() if nearer) or "no width"
        lines.append(f"{NEW}'s exponent of {kind}s is nearer to 0 than {OLD}'s at {where} (of {len(holds)} widths)")
    return lines
