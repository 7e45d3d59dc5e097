"""Any text as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.bounds import tried
from tests.fuzz.inputs import HOSTILE, mutated_bytes, mutated_value, scalars, texts, values
from tests.fuzz.watch import place, run

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
E2E = RECIPES.parent / "tests/e2e/recipe.yaml"
SHIPPED = sorted([*(RECIPES / "tiny").glob("*.yaml"), *(RECIPES / "released").glob("*.yaml"), E2E])
MARKS = ("&a [*a, *a]", "{", "]", "- ", "!!binary ", "? ", "|\n", "\t", "\x00", "\xff")
PIECES = tuple(f"\n{key}: ".encode() for key in ("inherits", "posttraining", "name", "<<", "x"))
PIECES += tuple(text.encode() for text in (*HOSTILE, *MARKS))


def _text(path: Path) -> str:
    """A shipped recipe as it stands, its ancestors by absolute paths."""
    text = path.read_text(encoding="utf-8")
    inherited = yaml.safe_load(text).get("inherits", [])
    for parent in inherited if isinstance(inherited, list) else [inherited]:
        text = text.replace(parent, str((path.parent / parent).resolve()))
    return text


TEXTS = {path: _text(path) for path in SHIPPED}
VALUES = {path: yaml.safe_load(text) for path, text in TEXTS.items()}
paths = st.sampled_from(SHIPPED)
slips = paths.flatmap(lambda path: mutated_bytes(TEXTS[path].encode(), PIECES))
changes = paths.flatmap(lambda path: mutated_value(VALUES[path])).map(lambda value: yaml.dump(value).encode())
anything = st.binary(max_size=200) | values.map(lambda value: yaml.dump(value, allow_unicode=True).encode("utf-8", "replace"))


@tried(12)
@given(slips | changes | anything, st.sampled_from((("validate",), ("plan", "--json"))))
def test_any_text_is_a_recipe_or_is_refused(text: bytes, command: tuple[str, ...]) -> None:
    with place() as here:
        (here.given / "recipe.yaml").write_bytes(text)
        run(here, *command, here.given / "recipe.yaml")


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix]
    return [prefix, *(key for name, inner in value.items() for key in _keys(inner, f"{prefix}.{name}".lstrip(".")))]


@tried(8)
@given(
    st.lists(st.tuples(st.sampled_from(_keys(VALUES[E2E])) | texts, scalars.map(str) | values.map(yaml.dump)), max_size=3),
    st.sampled_from((("validate",), ("plan", "--json"))),
)
def test_any_setting_is_taken_or_refused(settings: list[tuple[str, str]], command: tuple[str, ...]) -> None:
    with place() as here:
        sets = [word for key, value in settings for word in ("--set", f"{key}={value}".replace("\0", ""))]
        run(here, *command, E2E, *sets)
