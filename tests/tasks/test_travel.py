"""Files of one machine that a recipe names: how they come to a pod, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.config import Recipe, load_recipe, recipe_yaml
from lehr.evals import own
from lehr.post.sets.files import files_of
from lehr.runtime.errors import UserError
from lehr.tasks import travel

TINY = Path(__file__).resolve().parents[2] / "tests" / "e2e" / "recipe.yaml"


def test_small_files_go_along_and_no_path_of_this_machine_is_pinned(tmp_path: Path) -> None:
    recipe, files = travel.packed(load_recipe(TINY))
    (name,) = files
    assert name.startswith("inputs/") and name.endswith("/bible.jsonl.gz") and files[name].is_file()
    assert str(TINY.parents[2]) not in recipe_yaml(recipe)
    (tmp_path / "recipes").mkdir()
    pinned = tmp_path / "recipes" / "x.yaml"
    pinned.write_text(recipe_yaml(recipe))
    loaded = load_recipe(pinned)  # wherever the run's folder is
    assert loaded.data is not None and loaded.data.sources["bible"].path == str(tmp_path / name)  # type: ignore[union-attr]
    shared = travel.portable(loaded, tmp_path)
    assert shared.data is not None and shared.data.sources["bible"].path == name  # type: ignore[union-attr]


def test_files_of_chats_go_along_too_by_folder_and_by_pattern(tmp_path: Path) -> None:
    rows = tmp_path / "chats" / "data"
    rows.mkdir(parents=True)
    for name in ("train-0.jsonl", "test-0.jsonl"):
        (rows / name).write_text('{"prompt": "a", "completion": "b"}\n')
    sources = [
        f"chat.sources.{name}={{kind: conversations, path: '{path}'}}"
        for name, path in {"folder": tmp_path / "chats", "pattern": tmp_path / "*" / "data" / "t*.jsonl"}.items()
    ]
    recipe, files = travel.packed(load_recipe(TINY, sources))
    pinned = tmp_path / "recipes" / "x.yaml"
    pinned.parent.mkdir()
    pinned.write_text(recipe_yaml(recipe))
    chat = load_recipe(pinned).chat
    for name, file in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(file.read_bytes())
    files = {name: files_of(source.path, source.split) for name, source in chat.sources.items()}
    found = {name: [Path(file.where).name for file in those] for name, those in files.items()}
    assert found == {"folder": ["train-0.jsonl"], "pattern": ["test-0.jsonl", "train-0.jsonl"]}
    assert str(tmp_path / "chats") not in recipe_yaml(recipe)


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    paths = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        paths.append(tmp_path / str(number) / "a.jsonl")
        paths[-1].write_text(f'{{"text": "{number}"}}\n')
    source = "{{kind: jsonl, path: {}, license: x}}"
    recipe = load_recipe(
        TINY, [f"data.sources.bible={source.format(paths[0])}", f"data.sources.more={source.format(paths[1])}"]
    )
    _, files = travel.packed(recipe)
    assert sorted(files.values()) == paths


def test_large_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    large.write_bytes(b"x" * (travel.MOST_BYTES + 1))
    recipe = load_recipe(TINY, [f"data.sources.bible.path={large}"])
    with pytest.raises(UserError, match="on this machine only") as caught:
        travel.packed(recipe)
    assert "--in-image" in str(caught.value) and str(large) in str(caught.value)
    left, files = travel.packed(recipe, [str(tmp_path)])
    assert not files and left == recipe, "a file that the image has is left where it is"


def test_a_model_of_this_machine_is_refused(tmp_path: Path) -> None:
    values = {"base": {"checkpoint": str(tmp_path)}}
    with pytest.raises(UserError, match="this model is on this machine only"):
        travel._refuse_models(values, [])
    travel._refuse_models({"base": {"checkpoint": "s3://b/p/artifacts/x"}}, [])


def test_merged_models_of_this_machine_are_refused(tmp_path: Path) -> None:
    """Steps of the recipe and addresses travel; a folder does not."""

    def recipe(*parents: object) -> Recipe:
        merge = f"{{kind: merge, name: both, parents: [{', '.join(map(str, parents))}]}}"
        return load_recipe(TINY, [f"posttraining=[{{kind: sft}}, {merge}]"])

    travel.packed(recipe("sft", "s3://b/r/artifacts/code-0"))
    with pytest.raises(UserError, match="this model is on this machine only") as caught:
        travel.packed(recipe("sft", tmp_path / "code"))
    assert caught.value.where == f"posttraining.both.parents={tmp_path / 'code'}"


@pytest.mark.parametrize(
    "step",
    [
        "{kind: ppo, name: rl, families: [math], optim: {lr: 1e-5}, reward_models: {PLACE/rm: 1.0}}",
        "{kind: ppo, name: rl, families: [math], optim: {lr: 1e-5}, value: PLACE/rm}",
        "{kind: reward_model, name: rl, loss: contrastive, against: PLACE/rm}",
        (
            "{kind: dpo, name: rl, optim: {lr: 1e-5}, pairs: {by: model-gap, weaker: PLACE/rm, families: [math], prompts: 2, "
            "held_out_prompts: 2}}"
        ),
    ],
)
def test_rewards_and_other_models_of_this_machine_are_refused(step: str, tmp_path: Path) -> None:
    """By their absolute path, whatever the recipe wrote relative to itself."""
    for place in (tmp_path, Path("elsewhere")):
        path = tmp_path / "r.yaml"
        path.write_text(f"inherits: {TINY}\nposttraining: [{{kind: sft}}, {step.replace('PLACE', str(place))}]\n")
        with pytest.raises(UserError, match="this model is on this machine only") as caught:
            travel.packed(load_recipe(path))
        assert str(caught.value.where).endswith(f"={tmp_path / place / 'rm'}")
    path.write_text(f"inherits: {TINY}\nposttraining: [{{kind: sft}}, {step.replace('PLACE', 's3://b/r/artifacts')}]\n")
    travel.packed(load_recipe(path))


def test_a_task_of_ones_own_goes_along_with_its_data(tmp_path: Path) -> None:
    """Its data keep their place beside it; the recipe names it relative to itself, and it is the same task."""
    home = tmp_path / "mine"
    (home / "data").mkdir(parents=True)
    (home / "data" / "rows.jsonl").write_text('{"q": "1+1=", "a": "2"}\n')
    said = "kind: generation\nprompt: q\ntarget: a\nmetrics: {exact_match: {}}\n"
    (home / "sums.yaml").write_text(f"{said}data: data/rows.jsonl\n")
    tasks = [f"evaluation.tasks=[{{task: '{home / 'sums.yaml'}'}}]", "evaluation.headline=[sums/exact_match]"]
    recipe, files = travel.packed(load_recipe(TINY, tasks))
    for name, file in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(file.read_bytes())
    pinned = tmp_path / "recipes" / "x.yaml"
    pinned.parent.mkdir()
    pinned.write_text(recipe_yaml(recipe))
    assert str(home) not in pinned.read_text()
    [plan] = load_recipe(pinned).evaluation.tasks
    assert Path(plan.task).is_relative_to(tmp_path / "inputs")
    assert own.identity(plan.task) == own.identity(str(home / "sums.yaml"))
    [kept] = travel.portable(load_recipe(pinned), tmp_path).evaluation.tasks
    assert kept.task == Path(plan.task).relative_to(tmp_path).as_posix()
    (home / "sums.yaml").write_text(f"{said}data: {home / 'data' / 'rows.jsonl'}\n")
    with pytest.raises(UserError, match="names a file by its whole path, which no pod has"):
        travel.packed(load_recipe(TINY, tasks))
