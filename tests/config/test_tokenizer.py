"""The tokenizer section: trained or given, and where its path leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.config.load import load_recipe, recipe_yaml
from lehr.config.merge import _PATHS
from lehr.runtime.errors import UserError

TINY = Path(__file__).parents[2] / "recipes/tiny/olmo2.yaml"
GIVEN = "tokenizer={path: x/tokenizer.json}"
RANKS = "tokenizer={path: x.tiktoken, pattern: cl100k, special_tokens: {<|endoftext|>: 300}}"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["tokenizer.vocab_size=299"], ["--set: tokenizer: vocab_size=299 must be 300 or more", "give the path of one"]),
        (["tokenizer.vocab_size=300_000"], ["tokenizer.vocab_size", "less than or equal to 262144"]),
        (["tokenizer.pattern=gpt2"], ["--set: tokenizer: pattern='gpt2' describes a file", "Give its path"]),
        (["tokenizer.eos=</s>"], ["eos='</s>' describes a file"]),
        (
            [GIVEN, "tokenizer.training_characters=5"],
            ["training_characters=5, but path gives a tokenizer", "Remove one of them"],
        ),
        ([GIVEN, "tokenizer.pattern=gpt2"], ["pattern is for a .tiktoken file of ranks", "Remove it"]),
        ([GIVEN, "tokenizer.special_tokens={a: 1}"], ["special_tokens is for a .tiktoken file of ranks"]),
        (["tokenizer={path: x.tiktoken}"], ["pattern: missing, a file of ranks has none", "Set it to gpt2, cl100k, o200k"]),
        ([RANKS, "tokenizer.special_tokens.more=300"], ["give one id twice", "Give each its own"]),
        ([RANKS, "tokenizer.special_tokens.more=-1"], ["tokenizer.special_tokens.more", "greater than or equal to 0"]),
        ([RANKS, "tokenizer.vocab_size=2048"], ["tokenizer.vocab_size=2048 is more than model.vocab_size=1024"]),
    ],
)
def test_refusals(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(TINY, overrides)
    assert all(part in str(caught.value) for part in parts) and "\n" not in str(caught.value), caught.value


def test_without_a_path_the_size_must_be_said(tmp_path: Path) -> None:
    whole = load_recipe(TINY).model_dump(mode="json")
    whole["tokenizer"] = {"origin": "somewhere"}
    path = tmp_path / "x.yaml"
    path.write_text(str(whole).replace("None", "null").replace("True", "true").replace("False", "false"))
    with pytest.raises(UserError, match="tokenizer: vocab_size: missing, it must be 300 or more"):
        load_recipe(path)


def test_a_path_is_relative_to_its_file_and_begins_the_section_anew(tmp_path: Path) -> None:
    """The ancestor trains: how, and how large, is no longer meant."""
    (tmp_path / "inner").mkdir()
    middle, child = tmp_path / "inner/middle.yaml", tmp_path / "child.yaml"
    middle.write_text(f"inherits: {TINY}\ntokenizer: {{path: ../given}}\n")
    child.write_text("inherits: inner/middle.yaml\ntokenizer: {eos: <end>}\n")
    recipe = load_recipe(child)
    assert recipe.tokenizer.model_dump(exclude_defaults=True) == {"path": str(tmp_path / "given"), "eos": "<end>"}
    assert load_recipe(child, ["tokenizer.path=s3://b/x"]).tokenizer.path == "s3://b/x"
    pinned = tmp_path / "elsewhere.yaml"
    pinned.write_text(recipe_yaml(recipe))
    assert load_recipe(pinned) == recipe
    trained = load_recipe(child, ["tokenizer.vocab_size=500", "tokenizer.path=''"])
    assert trained.tokenizer.model_dump(exclude_defaults=True) == {"vocab_size": 500}
    by_set = load_recipe(TINY, ["tokenizer.path=given"]).tokenizer
    assert by_set.path == str(Path.cwd() / "given") and by_set.vocab_size == 0


def test_which_keys_name_files() -> None:
    named = ["data.sources.web.path", "tokenizer.path", "base.checkpoint", "base.huggingface"]
    others = ["data.sources.web.uri", "tokenizer.pattern", "base.kind", "model.path", "path"]
    assert [key for key in (*named, *others) if _PATHS.fullmatch(key)] == named
