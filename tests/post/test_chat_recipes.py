"""A recipe's chat template: named, or a file's, whose content counts; and wrong ones in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.load import recipe_yaml
from lehr.data.tokenizer import Tokenizer
from lehr.pipeline.graph import graph
from lehr.pipeline.registry import stage
from lehr.pipeline.requirements import check_made
from lehr.pipeline.run import Identity
from lehr.pipeline.spec import Inputs
from lehr.runtime.errors import UserError

E2E = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"
TEXT = "{% for m in messages %}{{ m['role'] + m['content'] + eos_token }}{% endfor %}"


def written(folder: Path, template: str, name: str = "recipe.yaml", inherits: Path | str = E2E) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"inherits: {inherits}\n" + (f"chat: {{template: {template}}}\n" if template else ""), encoding="utf-8")
    return path


def prints(path: Path) -> dict[str, str]:
    nodes = graph(load_recipe(path))
    return {node.name: Identity.of(stage(node.kind), node.name, node.config, Inputs({})).print for node in nodes}


def chosen(path: Path) -> dict[str, str]:
    return {n.name: found for n in graph(load_recipe(path)) if (found := getattr(n.config, "template", None)) is not None}


def test_sft_takes_the_recipes_template_and_nothing_else_changes(tmp_path: Path) -> None:
    plain = prints(E2E)
    for name in ("granite", "lehr"):
        path = written(tmp_path, name)
        assert chosen(path) == {"sft-rows": name, "sft": name}
        assert {stage_ for stage_, found in prints(path).items() if found != plain[stage_]} == {"sft-rows", "sft"}


def test_a_file_counts_by_its_content_and_is_needed_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        written(tmp_path / folder, "own/mine.jinja")
        (tmp_path / folder / "own").mkdir()
        (tmp_path / folder / "own/mine.jinja").write_text(TEXT, encoding="utf-8")
    parent = tmp_path / "a/recipe.yaml"
    child = written(tmp_path / "c", "", inherits=parent)  # relative to the file in which it is written
    assert chosen(child) == {"sft-rows": TEXT, "sft": TEXT}
    first, again = prints(parent), prints(tmp_path / "b/recipe.yaml")
    assert first == again == prints(child)
    stored = tmp_path / "stored.yaml"
    stored.write_text(recipe_yaml(load_recipe(parent)), encoding="utf-8")
    (tmp_path / "a/own/mine.jinja").unlink()
    assert prints(stored) == first
    (tmp_path / "b/own/mine.jinja").write_text(TEXT + " ", encoding="utf-8")
    assert prints(tmp_path / "b/recipe.yaml")["sft"] != first["sft"]


WRONG = {
    "mistral": "there is no chat template 'mistral'. Give one of lehr, tulu",
    "absent.jinja": "there is no such file",
    "bytes.jinja": "not UTF-8",
    "broken.jinja": "broken.jinja: the chat template is no Jinja, line 1",
}


@pytest.mark.parametrize(("name", "said"), WRONG.items())
def test_a_wrong_template_is_one_line_before_anything_runs(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes.jinja").write_bytes(b"\xff")
    (tmp_path / "broken.jinja").write_text("{% for %}", encoding="utf-8")
    assert main(["plan", str(written(tmp_path, name))]) == 2
    shown = capsys.readouterr().err
    assert said in " ".join(shown.split()) and "Traceback" not in shown


def test_a_template_that_no_step_teaches_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "tulu")
    with pytest.raises(UserError, match=r"chat\.template=tulu: a step of kind sft teaches it"):
        load_recipe(path, ["posttraining=[]"])


def test_prompts_are_measured_as_they_will_be_rendered(tmp_path: Path) -> None:
    """Too long under a template that says much before each turn, though the tokenizer's own would do."""
    Tokenizer.train(["the answer is 12. Calculate 5 plus 3?\n" * 30], 300).save(tmp_path / "tokenizer")
    (tmp_path / "long.jinja").write_text(TEXT.replace("m['role'] +", "'so ' * 200 + m['role'] +"), encoding="utf-8")
    for template, refused in (("tulu", False), ("long.jinja", True)):
        nodes = graph(load_recipe(written(tmp_path, template)))
        made = next(node for node in nodes if node.kind == "tokenizer")
        if refused:
            with pytest.raises(UserError, match="more than"):
                check_made(made, tmp_path / "tokenizer", nodes, 256, lambda _: None)
        else:
            check_made(made, tmp_path / "tokenizer", nodes, 256, lambda _: None)
