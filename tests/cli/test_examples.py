"""The examples that `--help` shows are commands: each is read by the command that it calls, with options that exist."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lehr.cli.main import lehr
from lehr.config import load_recipe
from lehr.runtime.seeds import uniform_hash

ROOT = Path(__file__).resolve().parents[2]


def commands(group: click.Command = lehr, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name))


def examples() -> list[str]:
    """Lines of all help texts that call `lehr`, without what explains them."""
    lines = [line.strip() for _, command in commands() for line in (command.help or "").splitlines()]
    return sorted({re.split(r"\s{2,}", line)[0] for line in lines if re.match(r"(lehr|echo .*\| lehr) ", line)})


def documented() -> list[str]:
    """Lines in the fenced blocks of the README and of docs/ that call `lehr`, without what explains them."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
        found += [line for block in blocks for line in block.splitlines() if line.startswith("lehr ")]
    return sorted({re.split(r"\s+# |\s{2,}", line)[0] for line in found})


def called(example: str) -> list[str]:
    """The arguments of the `lehr` in a line of shell."""
    words = shlex.split(example)
    words = words[words.index("lehr") + 1 :]
    ends = [i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")]
    return words[: ends[0]] if ends else words


def test_every_command_has_an_example() -> None:
    assert len(examples()) > 30
    assert {path[0] for path, _ in commands() if path} <= {called(example)[0] for example in examples()}


def test_help_fits_a_narrow_terminal() -> None:
    """click wraps sentences, and leaves blocks of examples as they are. Commands of the first page stand in its sections."""
    lines = [line for _, c in commands() for line in c.get_help(click.Context(c, terminal_width=80)).splitlines()]
    assert [line for line in lines if len(line) > 80] == []
    page = lehr.get_help(click.Context(lehr))
    assert [name for name in lehr.commands if not re.search(rf"^  {name} {{4,}}[A-Z]", page, re.M)] == []


@pytest.mark.parametrize("example", sorted({*examples(), *documented()}))
def test_an_example_is_read_by_its_command(example: str) -> None:
    command: click.Command = lehr
    arguments = called(example)
    context: click.Context | None = None
    while isinstance(command, click.Group) and arguments:
        context = click.Context(command, info_name=command.name, parent=context)
        name, inner, arguments = command.resolve_command(context, arguments)
        assert inner is not None, name
        command = inner
    made = command.make_context(command.name, list(arguments), parent=context)  # refuses unknown options and bad values
    if "recipe" in made.params:
        recipe = made.params["recipe"]
        if recipe.parts[0] not in ("mine", "my.yaml"):  # which the example before it writes; which the reader has
            load_recipe(recipe, list(made.params.get("overrides", ())), made.params.get("machines"))


def test_the_document_that_lookup_asks_for_is_trained_on() -> None:
    (document,) = {word.partition(":")[2] for e in examples() if "--document" in e for word in e.split() if ":" in word}
    with gzip.open(ROOT / "recipes/data/speeches.jsonl.gz", "rt", encoding="utf-8") as lines:
        assert document in {json.loads(line)["id"] for line in lines}
    data = load_recipe(ROOT / "recipes/tiny/olmo2.yaml").data
    assert data is not None and uniform_hash(document) >= data.dev_share + data.held_out_share
