"""Recipes: what they inherit, what is refused, and that a refusal names file, key, value and remedy in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lehr.config import load_recipe, recipe_yaml
from lehr.config.reference import with_reference
from lehr.runtime.errors import UserError
from lehr.runtime.yaml_file import parse

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "recipes/tiny/olmo2.yaml"


def refusal(*overrides: str, recipe: Path = TINY) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, overrides)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


WHOLE = [p for p in sorted((ROOT / "recipes").glob("*/*.yaml")) if p.parent.name != "hardware"]  # those are sections


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: p.stem)
def test_shipped_recipes_are_valid_and_pin_themselves(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(recipe_yaml(recipe))
    assert load_recipe(pinned) == recipe  # the pinned text needs no parent and loses nothing


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("stage1.tokenz=5", ["--set", "stage1.tokenz: unknown key", "(given: 5)", "Did you mean 'tokens'?"]),
        ("stage1.optim.learning=1", ["stage1.optim.learning: unknown key"]),
        ("data.sources.bible.licence=CC0", ["data.sources.bible.licence: unknown key", "Did you mean 'license'?"]),
        ("anneels.seeds=[1]", ["--set", "anneels: unknown key", "Did you mean 'anneals'?"]),
        ("stage1.tokens=-5", ["--set", "stage1.tokens", "greater than 0", "(given: -5)"]),
        ("stage1.tokens=many", ["stage1.tokens: expected a whole number", "(given: 'many')"]),
        ("stage1.tokens=1.5", ["expected a whole number", "1.5"]),
        ("stage1.tokens=true", ["expected a whole number", "True"]),
        ("stage1.tokens=5", ["--set", "is less than one step of 1024 tokens", "Raise tokens"]),
        ("tracking.registered_model=a/b", ["--set", "registered_model", "'a/b' is not a valid name", "letters, digits"]),
        ("tracking.register_model=chat", ["tracking.register_model: unknown key", "Did you mean 'registered_model'?"]),
        ("stage1.optim.lr=.nan", ["stage1.optim.lr", "finite number"]),
        ("stage1.optim.lr=.inf", ["stage1.optim.lr", "finite number"]),
        ("stage1.optim.clip_norm=.nan", ["stage1.optim.clip_norm", "greater than 0"]),  # .inf: not clipped
        ("posttraining.sft.stepz=5", ["--set", "posttraining.sft.stepz: unknown key", "Did you mean 'steps'?"]),
        ("posttraining.dpo.families=[list]", ["posttraining.dpo.families: unknown key", "Did you mean 'pairs.families'?"]),
        ("stage1.lr=1e-3", ["stage1.lr: unknown key", "Did you mean 'optim.lr'?"]),
        ("data.sources.more={path: a.jsonl}", ["data.sources.more.kind: this key is missing", "lists the kinds"]),
        ("posttraining.rlvr.steps=5", ["there is no step 'rlvr'", "steps are: sft, dpo, reward-model, ppo"]),
        ("posttraining.dpo.pairs.samples=1", ["posttraining.dpo.pairs.samples=1: one answer makes no pair"]),
        ("posttraining.sft.parent=ppo", ["posttraining.sft.parent='ppo' is not a model before this step", "Those are: soup"]),
        ("posttraining=[{kind: dpo}]", ["posttraining.dpo: its parent soup is not a chat model"]),
        ("posttraining=[{kind: sft, name: a}, {kind: sft, name: a}]", ["the name 'a' stands twice"]),
        ("posttraining=[{kind: sft}, {kind: dpo, name: [a]}]", ["posttraining.1.name", "['a'] is not text"]),
        ("posttraining=[{kind: sft, name: soup, optim: {lr: 1e-5}}]", ["the name 'soup' is taken"]),
        ("stage1.optim.betas=[0.9, 1.5]", ["stage1.optim.betas.1", "less than 1", "1.5"]),
        ("stage1.schedule.final_ratio=.nan", ["stage1.schedule.final_ratio"]),
        ("site.pue=.inf", ["site.pue"]),
        ("stage1.schedule.warmup_tokens=99_000_000", ["nothing after the warm-up", "Lower it"]),
        ("stage1.schedule.horizon_tokens=1000", ["horizon_tokens=1000 ends before"]),
        ("model=5", ["model: expected a section of keys", "(given: 5)"]),
        ("model.d_model=130", ["--set", "d_model=130 is not a multiple of n_heads=4", "Change one"]),
        (
            "data.mixes.web.weights.foo=0.2",
            ["data.mixes.web.weights.foo: there is no source 'foo'", "Sources are: arithmetic, bible"],
        ),
        ("data.mixes.web.weights.bible=0", ["data.mixes.web.weights.bible", "greater than 0"]),
        ("anneals.mix=zz", ["--set", "anneals.mix: there is no mix 'zz'", "Mixes are: chat_replay, dolmino, web"]),
        ("anneals.seeds=[1, 1]", ["seeds=[1, 1] repeat"]),
        ("data.sources.bible.kind=json", ["data.sources.bible", "'json'", "'jsonl', 'synthetic'"]),
        (
            "data.sources.synthetic={kind: synthetic, generator: poems, documents: 5}",
            ["data.sources.synthetic.generator", "'poems'"],
        ),
        (
            "data.sources.jsonl={kind: synthetic, generator: arithmetic, documents: 0}",
            ["data.sources.jsonl.documents", "greater than 0"],
        ),
        ("data.dev_share=0.98", ["leave nothing to train on"]),
        (
            "data.filters.gopher_quality.min_mean_word_length=11.0",
            ["--set", "data.filters.gopher_quality", "min_mean_word_length=11.0 is more than max_mean_word_length=10.0"],
        ),
        ("data.filters.gopher_quality.max_symbols=-0.1", ["data.filters.gopher_quality.max_symbols", "-0.1"]),
        ("data.filters.language.keep=[en, frisian]", ["data.filters.language.keep", "frisian: no language"]),
        ("data.filters.language.kept=[de]", ["data.filters.language.kept: unknown key", "Did you mean 'keep'"]),
        ("data.filters.nonsense={}", ["data.filters.nonsense: there is no kind 'nonsense'", "'words'"]),
        ("data.filters.mine={kind: c5}", ["data.filters.mine: there is no kind 'c5'"]),
        ("data.filters.words.sources=[nowhere]", ["there is no source 'nowhere'"]),
        ("data.filters.repeated_ngram.unit=tokens", ["Tokens need a tokenizer's path"]),
        ("tokenizer.vocab_size=2048", ["--set", "tokenizer.vocab_size=2048 is more than model.vocab_size=1024"]),
        ("parallel.processes=3", ["stage1.batch_size=8 is not a multiple of parallel.processes=3"]),
        ("evaluation.tasks=[{task: prose, splits: [test]}]", ["evaluation.tasks.0.splits.0", "'dev' or 'held_out'", "'test'"]),
        ("evaluation.tasks=[]", ["evaluation.tasks", "at least 1"]),
        ("name=Up and away", ["name:", "'Up and away'"]),
        ("name=../up", ["name:", "'../up'", "is not a valid name", "Use at most 64 letters"]),
        ("data.sources={wiki/en: {kind: external}}", ["data.sources", "'wiki/en' is not a valid name"]),
        ("data.sources={../../x: {kind: external}}", ["'../../x' is not a valid name"]),
        (
            f"data.sources.{'x' * 260}={{kind: synthetic, generator: arithmetic, documents: 5}}",
            [f"'{'x' * 40}...' is not a valid name"],
        ),
        ("data.sources.Bible={kind: synthetic, generator: arithmetic, documents: 5}", ["same name on some file systems"]),
        ("data.mixes={a b: {weights: {bible: 1}}}", ["data.mixes", "'a b' is not a valid name"]),
        ("description={a: 1}", ["description: expected a text"]),
        ("stage1.tokens=" + "x" * 300, ["stage1.tokens: expected a whole number", "xxx..."]),
        ("description=[", ["--set description:1", "not YAML"]),
        ("stage1.tokens.more=1", ["'tokens' holds a value, not a section"]),
        ("nonsense", ["--set 'nonsense' is not key=value"]),
        ("=5", ["is not key=value"]),
    ],
)
def test_refusals_name_key_value_and_remedy(override: str, parts: list[str]) -> None:
    text = refusal(override)
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"stage1: {tokens: 5", ["bad.yaml:", "not YAML"]),
        (b"a: 1\nb: 2\na: 3\n", ["bad.yaml:3", "key 'a' stands twice"]),
        (b"- 1\n", ["bad.yaml", "a recipe is a mapping"]),
        (b"", ["a recipe is a mapping"]),
        (b"\xff\xfe\x00", ["bad.yaml", "not a text file"]),
        (b"a: \x07\n", ["bad.yaml", "not YAML", "special characters"]),
        (b"a: *missing\n", ["bad.yaml:1", "undefined alias"]),
        (b"a: !!python/object:os.system x\n", ["not YAML", "tags such as", "are not read"]),
        (b"inherits: bad.yaml\n", ["inherits itself"]),
        (b"inherits: other.yaml\n", ["bad.yaml", "there is no file 'other.yaml'"]),
        (b"inherits: tiny/olmo\n", ["bad.yaml", "there is no file 'tiny/olmo'", "shipped recipe, such as tiny/olmo2"]),
        (b"inherits: 5\n", ["inherits: 5 is not a path"]),
        (b"name: x\n", ["bad.yaml", "model: this key is missing"]),
        (b"name: 2020-13-45\n", ["bad.yaml", "model: this key is missing"]),  # a date is a text, and this one a name
        (b"seed: " + b"9" * 5000, ["bad.yaml:1", "more than 64 bits"]),
        (b"seed: !!int x\n", ["bad.yaml:1", "tags such as", "are not read"]),
        (b"seed: !!bool maybe\n", ["bad.yaml:1", "are not read"]),
        (b"a: " + b"[" * 20_000, ["bad.yaml:1", "nested more than 50 deep"]),
        (b"a:\n" + b"".join(b" " * n + b"a:\n" for n in range(1, 1000)), ["bad.yaml:5", "nested more than 50 deep"]),
        (b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60)), ["aliases"]),
        (b"a0: &a0 {k: x}\n" + b"".join(b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (n, n, n - 1, n - 1) for n in range(1, 60)), []),
        (b"a: &a [*a]\n", ["an alias refers to a value that contains it"]),
        (b"off: 1\n'off': 2\n", ["bad.yaml:2", "key 'off' stands twice"]),
        (b"? [a, b]\n: 1\n", ["a key must be a text"]),
        (b'description: "a\\0b"\n', ["bad.yaml:1", "the character NUL"]),
        (b'description: "\\ud800"\n', ["bad.yaml:1", "not valid Unicode"]),
        (b"inherits: loop.yaml\n", ["bad.yaml", "there is no file 'loop.yaml'"]),
        (b"inherits: " + b"x" * 300, ["bad.yaml", "there is no file"]),
        (b"x: " + b"y" * (1 << 20), ["bad.yaml", "more than 1 MiB"]),
    ],
)
def test_files_that_are_no_recipes(content: bytes, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    text = refusal(recipe=path)
    assert all(part in text for part in parts), text


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert "no such recipe file" in refusal(recipe=tmp_path / "none.yaml")
    assert "not a text file" in refusal(recipe=tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "symbolic links" in refusal(recipe=tmp_path / "loop")
    with pytest.raises(UserError, match="File name too long"):
        load_recipe(tmp_path / ("x" * 300))
    assert "this is not a path" in refusal(recipe=Path("a\0b"))
    (tmp_path / "file").write_text("")
    assert "no such recipe file" in refusal(recipe=tmp_path / "file" / "x.yaml")


def test_a_mistake_is_blamed_on_the_file_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent.yaml").write_text(f"inherits: {os.path.relpath(TINY, tmp_path)}\nstage1: {{tokens: -1}}\n")
    (tmp_path / "child.yaml").write_text("inherits: parent.yaml\nseed: 3\n")
    assert refusal(recipe=tmp_path / "child.yaml").startswith("parent.yaml: stage1.tokens")
    assert load_recipe("child.yaml", ["stage1.tokens=409_600"]).stage1.steps == 400


@pytest.mark.parametrize(
    "override",
    ["model.max_seq_len=64", "parallel.processes=3", "data.held_out_share=0.99", "model.vocab_size=512", "model.n_heads=3"],
)
def test_a_mistake_of_set_is_blamed_on_it_wherever_the_other_key_stands(override: str) -> None:
    assert refusal(override).startswith("--set: ")


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text(f"inherits: {TINY}\nsede: 3\nstage1: {{tokens: -1}}\nmodel: {{n_layers: many}}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(child, ["parallel.processes=two"])
    lines = [str(error) for error in (caught.value, *caught.value.more)]
    keys = ("sede: unknown key", "model.n_layers: expected", "stage1.tokens: expected", "parallel.processes: expected")
    assert len(lines) == 4 and all(any(key in line for line in lines) for key in keys), lines
    assert [line.startswith("--set") for line in lines if "parallel" in line] == [True]
    with pytest.raises(UserError) as caught:  # mistakes of how the parts fit together
        load_recipe(TINY, ["anneals.mix=none", "tokenizer.vocab_size=4096", "parallel.processes=3"])
    assert len(caught.value.more) == 3
    with pytest.raises(UserError) as caught:  # a misspelt key is one mistake, not a missing one as well
        load_recipe(TINY, ["stage1={tokenz: 5}", "evaluation.tasks=[{taks: prose}]"])
    assert [error.what.partition(" ")[0] for error in (caught.value, *caught.value.more)] == [
        "stage1.tokenz:",
        "evaluation.tasks.0.taks:",
    ]
    with pytest.raises(UserError) as caught:
        load_recipe(TINY, [f"key{n}=1" for n in range(500)])
    assert len(caught.value.more) == 20 and "more mistakes" in str(caught.value.more[-1])


def test_inheritance_is_bounded_and_its_circles_are_named(tmp_path: Path) -> None:
    (tmp_path / "0.yaml").write_text("name: x\n")
    for n in range(1, 40):
        (tmp_path / f"{n}.yaml").write_text(f"inherits: [{n - 1}.yaml, {n - 1}.yaml]\n")
    assert f"{tmp_path / '39.yaml'}: inherits: more than 100 files" in refusal(recipe=tmp_path / "39.yaml")
    for a, b in ("ab", "bc", "ca"):
        (tmp_path / f"{a}.yaml").write_text(f"inherits: {b}.yaml\n")
    assert all(f"{a}.yaml -> " in refusal(recipe=tmp_path / "a.yaml") for a in "abc")


def test_keys_are_their_texts(tmp_path: Path) -> None:
    source = "{kind: synthetic, generator: arithmetic, documents: 5}"
    names = ("no", "off", "yes", "1", "2020-01-01", "1e3", "null", "0x10", "12:30")
    child = tmp_path / "child.yaml"
    child.write_text(f"inherits: {TINY}\ndata:\n  sources:\n" + "".join(f"    {name}: {source}\n" for name in names[:-1]))
    assert set(names[:-1]) < set(load_recipe(child).data.sources)
    child.write_text(f"inherits: {TINY}\nname: 2020-13-45\n")
    assert load_recipe(child).name == "2020-13-45"
    assert parse("{12:30: 1:20, a: 010, b: 0x1f, c: 1_000, d: 3e-3, e: on, f: ~, g: 2020-01-01}", "x") == {
        "12:30": "1:20", "a": 8, "b": 31, "c": 1000, "d": 0.003, "e": True, "f": None, "g": "2020-01-01"
    }  # fmt: skip


def test_inheritance_merges_sections_and_replaces_tables(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text(
        f"inherits: {TINY}\nstage1: {{optim: {{lr: 1e-3}}}}\n"
        "data: {mixes: {web: {weights: {bible: 1}}}, sources: {mine: {kind: jsonl, path: my/text.jsonl, license: CC0-1.0}}}\n"
    )
    parent, recipe = load_recipe(TINY), load_recipe(child)
    assert recipe.stage1.optim.lr == 1e-3  # YAML 1.1 alone would read 1e-3 as a text
    assert recipe.stage1.optim.model_dump(exclude={"lr"}) == parent.stage1.optim.model_dump(exclude={"lr"})
    assert recipe.data.mixes["web"].weights == {"bible": 1}
    assert recipe.data.mixes["dolmino"] == parent.data.mixes["dolmino"]
    assert recipe.data.sources["mine"].path == str(tmp_path / "my/text.jsonl")  # type: ignore[union-attr]
    assert recipe.data.sources["bible"] == parent.data.sources["bible"]


def test_a_childs_steps_are_its_own_in_its_own_order(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text(
        f"inherits: {TINY}\nposttraining:\n"
        "- {kind: sft, steps: 7, schedule: {warmup_steps: 3}}\n"
        "- {kind: ppo, value: ''}\n"
        "- {kind: sft, optim: {lr: 1e-4}, parent: sft}\n"
    )
    parent, recipe = load_recipe(TINY), load_recipe(child, ["posttraining.ppo.kl=0.5"])
    assert [(s.name, s.kind, s.parent) for s in recipe.posttraining] == [
        ("sft", "sft", ""),
        ("ppo", "ppo", ""),
        ("sft-2", "sft", "sft"),
    ]
    first, reinforced, second = recipe.posttraining
    inherited = parent.posttraining[0].model_dump() | {"steps": 7}
    assert first.model_dump() == inherited | {"schedule": inherited["schedule"] | {"warmup_steps": 3}}
    assert reinforced.model_dump() == parent.posttraining[3].model_dump() | {"kl": 0.5, "value": ""}
    assert second.model_dump(include={"examples", "steps"}) == {"examples": {}, "steps": 0}  # of another name: from nothing


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("1_000", 1000), ("0", 0)])
def test_set_reads_numbers_as_the_file_does(text: str, value: int) -> None:
    assert load_recipe(TINY, [f"seed={text}"]).seed == value


def test_the_reference_in_the_documentation_is_current() -> None:
    page = (ROOT / "docs/recipes.md").read_text()
    assert page == with_reference(page), "run: make reference"
