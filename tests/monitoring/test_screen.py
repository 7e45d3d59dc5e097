"""Text of users on a terminal: it is shown as it is, and steers nothing."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from lehr.cli.failure import one_line
from lehr.monitoring.screen import Screen
from lehr.runtime.text import json_line, visible

ROOT = Path(__file__).resolve().parents[2]
EVIL = "[/b] [edit] :smile: \x1b[31m\x9b2J\r\x07\x7f\u202e\ud800"
STEERING = set("\x1b\x9b\r\x07\x7f\u202e\ud800")


def test_nothing_of_a_text_is_obeyed_wherever_it_stands() -> None:
    out = io.StringIO()
    screen = Screen(out, width=200, force_terminal=True, color_system=None)
    table, tree = Table(EVIL, title=EVIL, caption=EVIL), Tree(EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    tree.add(Text.assemble((EVIL, "bold")))
    screen.print(EVIL)
    screen.print(table)
    screen.print(tree)
    text = out.getvalue()
    assert not STEERING & set(text) and text.count("[/b] [edit] :smile:") >= 8


@given(st.text())
def test_what_is_shown_steers_no_terminal_and_json_stays_json(text: str) -> None:
    import json

    for shown in (visible(text), json_line({text: text}), one_line(text)):
        assert not any((c < " " and c not in "\t\n") or "\x7f" <= c <= "\x9f" for c in shown)
    assert json.loads(json_line({text: [text]})) == {text: [text]}


def test_every_command_prints_through_them() -> None:
    """`lehr.cli.say.say` and `lehr.monitoring.screen.Screen`, and nothing beside them but progress on standard error. Commands
    get their Screen from `lehr.cli.tables.console`, which cuts nothing that goes into a file."""
    wrong = []
    for path in [*(ROOT / "cli").glob("*.py"), *(ROOT / "monitoring").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            echo = isinstance(node, ast.Attribute) and node.attr in ("echo", "secho") and path.name != "say.py"
            bare = isinstance(node, ast.ImportFrom) and node.module == "rich.console" and path.name != "screen.py"
            made = isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Screen"
            own = made and path.parent.name == "lehr.cli" and path.name != "tables.py"
            if echo or own or (bare and any(alias.name == "Console" for alias in node.names)):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong


@pytest.mark.parametrize(("text", "width"), [("72", 72), ("9" * 5_000, 80), ("²", 80), ("wide", 80), ("-5", 80)])
def test_a_size_that_is_no_number_is_passed_over(text: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by `make fuzz`: rich reads COLUMNS and LINES with `int`, which raises for more than 4,300 digits."""
    monkeypatch.setenv("COLUMNS", text)
    monkeypatch.setenv("LINES", text)
    assert Screen(file=io.StringIO()).size.width == width
