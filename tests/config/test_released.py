"""Recipes of released models: every fact compared or explained, a source on every number, one message for what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.model.size import parameter_count
from lehr.runtime.errors import UserError
from tests.config.said import RECIPES, Rule, of, recipe
from tests.config.said_data import REASONS, RULES

RELEASED = sorted((RECIPES / "released").glob("*.yaml"))
SHARED = [RECIPES / name for name in ("olmo1-base.yaml", "olmo2-base.yaml", "granite3-base.yaml", "dolma-1.5.yaml")]
FACTS = yaml.load((Path(__file__).parent / "facts.yaml").read_text(), yaml.CSafeLoader)
GROUPS = ["models", "moe", "pretraining", "data", "posttraining"]
# Whole steps instead of round tokens; sums that a report rounds; a rate that conflict olmo2_7b_anneal_lr decides against.
LOOSE = {r".*\.total_tokens": 2e-3, r".*tokens.*": 1e-4, r".*2_7b\.anneal_start_lr_code": 3e-3}
LOOSE |= {r".*2_1b\.anneal_start_lr_code": 1e-3}  # of 4,000 steps of warm-up (conflict olmo2_warmup)
LOOSE |= {r".*\.(alpha|beta)": 1e-8}
# Conflicts that no recipe needs to cite.
ELSEWHERE = {"s1_mmlu_20", "s1_gsm_61", "pmi"}  # of scores


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every fact with its dotted path, null ones too; rows of a table go by their name."""
    if isinstance(node, list) and node and isinstance(node[0], dict):
        node = {row["name"]: {key: value for key, value in row.items() if key != "name"} for row in node}
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def rule_of(path: str) -> tuple[Rule, tuple[str, ...]] | None:
    return next(((rule, found.groups()) for rule in RULES if (found := re.fullmatch(rule.pattern, path))), None)


def same(said: Any, fact: Any, path: str) -> bool:
    if isinstance(said, frozenset):
        return fact in said
    if isinstance(fact, bool | str | set) or fact is None or (isinstance(fact, list | tuple) and not _numeric(fact)):
        return bool(said == fact)
    tolerance = next((t for pattern, t in LOOSE.items() if re.fullmatch(pattern, path)), 1e-9)
    return said is not None and bool(said == pytest.approx(fact, rel=tolerance))


def _numeric(values: list[Any] | tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


@pytest.mark.parametrize(("group", "least"), [*zip(GROUPS, (310, 3, 202, 218, 181), strict=True)])
def test_every_fact_is_in_a_recipe_or_explained(group: str, least: int) -> None:
    """`least` comparisons, so that a rule that stops matching cannot hide behind a reason."""
    compared, wrong = 0, []
    for path, fact in leaves(FACTS[group], group):
        found = rule_of(path)
        if found is None:
            assert any(re.fullmatch(pattern, path) for pattern in REASONS), f"{path} = {fact} is neither compared nor explained"
            continue
        rule, groups = found
        said, read = rule.said(*groups), rule.read(fact)
        if not same(said, read, path):
            wrong.append(f"{path}: recipe {said}, fact {fact}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared >= least


def test_no_rule_and_no_reason_is_idle() -> None:
    paths = [path for group in GROUPS for path, _ in leaves(FACTS[group], group)]
    used = Counter(found[0].pattern for path in paths if (found := rule_of(path)))
    unexplained = [path for path in paths if rule_of(path) is None]
    assert [rule.pattern for rule in RULES if not used[rule.pattern]] == []
    assert [pattern for pattern in REASONS if not any(re.fullmatch(pattern, path) for path in unexplained)] == []


def test_a_changed_number_is_found() -> None:
    """The comparison itself: one percent more of any number, and it is not the same."""
    for path, fact in leaves(FACTS["pretraining"], "pretraining"):
        found = rule_of(path)
        if found and isinstance(fact, float) and fact:
            assert not same(found[0].said(*found[1]), found[0].read(fact * 1.01), path), path


def test_thirteen_models_have_the_parameters_of_the_facts() -> None:
    assert len(RELEASED) == 13 == len(FACTS["models"])
    counts = {key: parameter_count(of(key).model) for key in FACTS["models"]}
    assert counts == {key: facts["n_params"] for key, facts in FACTS["models"].items()}


SOURCE = re.compile(
    r"Table|Figure|section|appendix|equation|conflict|the code|the weights|engine|recipe's code|trlX|assumed|ours|one run"
    r"|not disclosed|not in the report|Mix %"
)
# These may cite on the line of the key above them.
INHERITS = re.compile(r"\s*(weights|epochs|max_epochs|datasets):|\s*reported: \{|\s*[{-]")


def uncited(text: str) -> Iterator[str]:
    """Lines with a number and no source: in a comment on the line or right above it, or on the key's line of a table."""
    above, braces = "", 0
    parents: list[tuple[int, bool]] = []  # indentation, whether cited
    for line in text.splitlines():
        code, _, comment = ("", "", line) if line.lstrip().startswith("#") else line.partition(" #")
        if not code.strip():
            above = comment
            continue
        indent = len(code) - len(code.lstrip())
        if not braces:
            parents = [parent for parent in parents if parent[0] < indent]
        inherited = (braces > 0 or bool(INHERITS.match(code))) and bool(parents) and parents[-1][1]
        cited = bool(SOURCE.search(comment) or SOURCE.search(above)) or inherited
        if not braces:
            parents.append((indent, cited))
        braces += code.count("{") - code.count("}")
        if re.search(r": \[?-?\d", re.sub(r'"[^"]*"', "", code)) and not cited:
            yield line
        above = ""


@pytest.mark.parametrize("path", [*RELEASED, *SHARED, RECIPES / "base.yaml"], ids=lambda p: p.stem)
def test_every_number_names_its_source(path: Path) -> None:
    text = path.read_text().split("\nhardware:")[0]  # hardware cites in a key of its own
    assert list(uncited(text)) == []


def test_a_number_without_a_source_is_found() -> None:
    cited, bare = "  tokens: 5   # the code", "  batch_size: 7   # much"
    assert list(uncited(f"stage1:   # assumed\n{cited}\n{bare}\n  more:\n    - {{seed: 3}}")) == [bare, "    - {seed: 3}"]


@pytest.mark.parametrize("path", [*RELEASED, *SHARED], ids=lambda p: p.stem)
def test_tokens_are_the_product_that_their_comment_says(path: Path) -> None:
    for line in path.read_text().splitlines():
        code, _, comment = line.partition(" #")
        product = re.search(r"([\d,]+) steps (?:of|x) ([\d,]+) x ([\d,]+)", comment)
        if product and (value := re.search(r": ([\d_]+)", code)):
            steps, batch, length = (int(found.replace(",", "")) for found in product.groups())
            assert steps * batch * length == int(value[1].replace("_", "")), line


def test_every_conflict_is_cited_where_it_was_decided() -> None:
    text = "\n".join(path.read_text() for path in [*RELEASED, *SHARED, *(RECIPES / "hardware").glob("*.yaml")])
    cited = {
        word for group in re.findall(r"conflicts? ((?:\w+_\w+(?:, | and )?)+)", text) for word in re.findall(r"\w+_\w+", group)
    }
    assert cited - set(FACTS["conflicts"]) == set()
    assert set(FACTS["conflicts"]) - cited == ELSEWHERE


@pytest.mark.parametrize("path", RELEASED, ids=lambda p: p.stem)
def test_a_released_recipe_validates_and_a_run_says_at_once_what_is_missing(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(path)]) == 0
    *supply, verdict = capsys.readouterr().err.splitlines()
    assert supply and all(line.startswith("to run it: ") for line in supply)
    assert "no mistake; it can be run once" in verdict
    out = tmp_path / "run"
    assert main(["run", str(path), "--out", str(out)]) == 2 and not out.exists()
    loaded, said = recipe(path.stem), capsys.readouterr().err
    lines = said.splitlines()
    assert lines and all(line.startswith(f"error: recipe {loaded.name}: ") for line in lines)
    assert [word for word in loaded.data.sources if not re.search(rf"\b{word}\b", said)] == []
    assert re.search(rf"{len(loaded.data.sources)} sources? must be supplied", said)
    assert f"the tokenizer must be supplied: {loaded.tokenizer.origin}" in said
    assert "set data.sources.NAME.path to that place" in said
    for step in loaded.posttraining:
        if not getattr(step, "about", None):  # of which its questions are made
            lacks = "parents" if step.kind == "merge" else "data"
            assert f"posttraining.{step.name}: its {lacks} must be supplied: {step.supply}" in said


def test_a_stage_that_reaches_an_external_source_names_it() -> None:
    from lehr.stages.documents import DocumentsConfig

    data = load_recipe(RECIPES / "released/olmo-0424-7b.yaml").data
    with pytest.raises(UserError) as raised:
        DocumentsConfig(data=data, seed=0, decontaminate=[], evaluation_seed=0).described()
    assert "source 'dolma' must be supplied: Dolma 1.7" in str(raised.value)
    assert raised.value.where == "hf://datasets/allenai/dolma/urls/v1_7.txt" and "data.sources.dolma" in raised.value.remedy


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.mixes.dolma.repeats={dolma: 1.0}",
            "data.mixes.dolma.repeats: unknown key",
        ),  # a fact, so it goes into `reported`
        ("data.sources.dolma.tokens=5", "data.sources.dolma.tokens: unknown key"),
        ("data.sources.dolma.uri=somewhere", "data.sources.dolma"),
        ("posttraining=[{kind: sft, optim: {lr: 1e-5}, datasets: {a: 1}}]", "posttraining.sft.datasets: unknown key"),
        ("posttraining=[{kind: sft, lr: 1e-5}]", "posttraining.sft.lr: unknown key"),
        ("posttraining=[{kind: sft}]", "posttraining.sft.optim: this key is missing"),
        ("posttraining=[{kind: sft, name: sft stage 1, optim: {lr: 1e-5}}]", "posttraining.sft stage 1.name"),
        ("posttraining=[{kind: sfd}]", "there is no kind 'sfd'; kinds are: 'sft', 'dpo'"),
    ],
)
def test_a_mistake_in_a_plan_is_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipe(RECIPES / "released/olmo-0424-7b.yaml", [override])
