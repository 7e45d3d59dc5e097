"""What docs say of `data` is read as they show it, and leaves no key out."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.cli.main import main
from lehr.config.data import Data
from lehr.config.filters import Filter
from lehr.config.mix import Mix

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECIPE = """inherits: tiny/olmo2
data:
  sources: {forum: {kind: files, path: forum/*.jsonl, license: CC0-1.0, fields: {text: body, id: post.id}}}
"""


def blocks(page: str) -> list[dict[str, Any]]:
    """The tables `data` of a page's fenced blocks, in order."""
    found = re.findall(r"^```yaml\n(data:\n.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    return [yaml.load(block, yaml.CSafeLoader)["data"] for block in found]


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {**first, **{k: merged(first[k], v) if isinstance(first.get(k), dict) else v for k, v in second.items()}}


@pytest.mark.parametrize(
    ("page", "number"), [(p, n) for p in ("data", "dedup", "mathematics") for n in range(len(blocks(f"{p}.md")))]
)
def test_an_example_is_read_beside_the_page_s_sources(page: str, number: int) -> None:
    read = Data.model_validate(merged(blocks("data.md")[0], blocks(f"{page}.md")[number]))
    assert blocks(f"{page}.md")[number].keys() <= read.model_fields_set


def test_all_examples_together_are_one_recipe_s_data() -> None:
    all_: dict[str, Any] = {}
    for block in blocks("data.md"):
        all_ = merged(all_, block)
    read = Data.model_validate(all_)
    assert set(Data.model_fields) == read.model_fields_set
    assert {*Mix.model_fields} - {"reported"} <= {key for mix in read.mixes.values() for key in mix.model_fields_set}


def test_every_filter_is_named() -> None:
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    kinds = {each.model_fields["kind"].default for each in Filter.__origin__.__args__}
    assert len(kinds) > 15 and {kind for kind in kinds if f"`{kind}`" not in text} == set()


def test_a_row_is_read_by_the_names_that_the_page_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fields` as on the page; and a row without an id gets one."""
    assert blocks("data.md")[0]["sources"]["forum"]["fields"] == {"text": "body", "id": "post.id"}
    rows = [{"body": "One.", "post": {"id": "a7"}}, {"body": "Two."}]
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert (
        main(["data", "try", str(tmp_path / "recipe.yaml"), str(tmp_path / "texts.jsonl"), "--source", "forum", "--json"]) == 0
    )
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["id"] == "a7" and found[1]["id"]


def test_a_recipe_whose_filters_ask_a_model_is_tried_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiny recipes' quality classifier is trained first, as a run would."""
    recipes = DOCS.parent / "recipes"
    with gzip.open(recipes / "data/speeches.jsonl.gz", "rt", encoding="utf-8") as file:
        speech = json.loads(next(file))["text"]
    (tmp_path / "texts.jsonl").write_text(json.dumps({"id": "a", "text": speech[:5000]}) + "\n", encoding="utf-8")
    assert main(["data", "try", "tiny/olmo2", str(tmp_path / "texts.jsonl"), "--json"]) == 0
    [found] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["kept"] and found["scores"]["classifier.probability"] > 0.9
    assert main(["data", "try", "tiny/olmo2", str(tmp_path / "none.jsonl")]) == 2
    assert "trained" not in capsys.readouterr().err  # a mistake is said before
