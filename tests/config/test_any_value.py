"""Any value at any section of a recipe is one line, or a recipe."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from lehr.config import Recipe, load_recipe
from lehr.runtime.errors import UserError

TINY = Path(__file__).resolve().parents[2] / "recipes/tiny/olmo2.yaml"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from(
        [*Recipe.model_fields, "stage1.optim", "data.sources", "data.mixes", "data.sources.bible", "evaluation.tasks"]
    ),
)
def test_no_value_brings_the_loader_down(value: object, key: str) -> None:
    """Any YAML at any section is a recipe or a one-line UserError; nothing else escapes."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    try:
        load_recipe(TINY, [f"{key}={text}"])
    except UserError as error:
        assert "\n" not in str(error)
