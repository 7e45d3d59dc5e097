"""A run begins anywhere: with somebody else's model, or with what another run made. Lineage goes on across runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.pipeline.graph import graph
from lehr.planning.plan import plan_run
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import load_checkpoint
from tests.data.given import save
from tests.model.test_exchange_given import KINDS, byte_level, their_folder

ROOT = Path(__file__).resolve().parents[2]
E2E = ROOT / "tests" / "e2e" / "recipe.yaml"
SFT = {
    "kind": "sft", "examples": {"math": 20, "repeat": 20}, "optim": {"lr": 1e-3}, "steps": 3, "batch_size": 4, "max_length": 90,
}  # fmt: skip
TASKS = [{"task": "arithmetic", "limit": 3}, {"task": "chat_math", "limit": 3, "stages": "chat"}]

THEIRS = {"base": {"huggingface": "theirs"}}


def recipe(folder: Path, **sections: object) -> Path:
    """A recipe without ancestors: a base, a step, two tasks."""
    path = folder / "recipe.yaml"
    said = {"name": "chat", "posttraining": [SFT], "evaluation": {"tasks": TASKS, "max_new_tokens": 8, "in_loop_steps": 0}}
    path.write_text(yaml.safe_dump({**said, **sections}, sort_keys=False))
    return path


def stages(out: Path) -> dict[str, dict[str, object]]:
    return {row["stage"]: row for row in json.loads((out / "lineage.json").read_text())}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_somebody_else_is_taught_to_chat_without_stage_1(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights of transformers with a tokenizer that has no roles: no data are read, none is pretrained."""
    their_folder(kind, tmp_path / "theirs")
    path, out = recipe(tmp_path, base={"huggingface": "theirs"}), tmp_path / "run"
    assert [node.name for node in graph(load_recipe(path))] == [
        "base",
        "tokenizer",
        "sft-rows",
        "scores-base",
        "sft",
        "scores-sft",
        "export",
    ]
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    rows = stages(out)
    assert set(rows) == {"base", "tokenizer", "scores-base", "sft-rows", "sft", "scores-sft", "export"}
    assert {r["stage"] for r in json.loads((out / "scores.json").read_text())} == {"base", "sft"}
    html = (out / "report.html").read_text()
    assert "sft" in html and "from scratch" not in html
    from transformers import AutoModelForCausalLM, AutoTokenizer

    taught = load_checkpoint(Artifact.open(next((out / "artifacts").glob("sft-[!r]*"))))
    AutoModelForCausalLM.from_pretrained(out / "model")
    text = "it's 1,234 naïve?"
    theirs = AutoTokenizer.from_pretrained(out / "model")
    assert theirs(text, add_special_tokens=False)["input_ids"] == taught.tokenizer.encode(text)
    assert taught.chat and taught.architecture.family == kind
    assert main(["show", str(out)]) == 0 and main(["plan", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "base" in shown and "sft" in shown


def test_a_tokenizer_of_ones_own_takes_the_place_of_the_folders(tmp_path: Path) -> None:
    """A folder without a tokenizer, and one that lies elsewhere."""
    their_folder("olmo2", tmp_path / "theirs")
    for path in (tmp_path / "theirs").glob("*token*"):
        path.unlink()
    save(tmp_path / "words", byte_level(["<|endoftext|>"], "gpt2", 380))
    path = recipe(tmp_path, base={"huggingface": "theirs"}, tokenizer={"path": "words"}, posttraining=[])
    out = tmp_path / "run"
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    base = load_checkpoint(Artifact.open(next((out / "artifacts").glob("base-*"))))
    assert base.tokenizer.vocab_size < 400
    assert [p["stage"] for p in stages(out)["base"]["parents"]] == ["tokenizer"]  # type: ignore[attr-defined]
    larger = save(tmp_path / "larger", byte_level(["<|endoftext|>", *(f"<|x{i}|>" for i in range(99))]))
    too_large = recipe(tmp_path, base={"huggingface": "theirs"}, tokenizer={"path": str(larger)}, posttraining=[])
    assert main(["run", str(too_large), "--out", str(tmp_path / "other"), "--no-mlflow"]) == 2


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stage 1 alone, with its data."""
    out = tmp_path_factory.mktemp("first") / "run"
    only = ["ramp=null", "anneals=null", "posttraining=[]", "evaluation.tasks=[{task: prose, limit: 4}]"]
    sets = [part for override in only for part in ("--set", override)]
    assert main(["run", str(E2E), "--out", str(out), "--no-mlflow", *sets]) == 0
    return out


def annealing(folder: Path, checkpoint: Path | str) -> Path:
    data = yaml.safe_load(E2E.read_text())["data"]
    for source in data["sources"].values():
        if "path" in source:
            source["path"] = str((E2E.parent / source["path"]).resolve())
    anneals = {"mix": "better", "tokens": 4096, "seeds": [1, 2]}
    tasks = {"tasks": [{"task": "prose", "limit": 4}], "in_loop_steps": 0}
    base = {"checkpoint": str(checkpoint)}
    return recipe(folder, name="anneal", seed=7, base=base, data=data, anneals=anneals, evaluation=tasks, posttraining=[])


@pytest.mark.long
def test_another_runs_checkpoint_is_annealed_and_lineage_spans_both(pretrained: Path, tmp_path: Path) -> None:
    stage1 = Artifact.open(next((pretrained / "artifacts").glob("stage1-*")))
    path, out = annealing(tmp_path, stage1.folder), tmp_path / "run"
    loaded = load_recipe(path)
    assert loaded.base is not None and loaded.base.training is not None
    assert loaded.base.training.batch_size == 16 and loaded.model.d_model == 32
    names = [node.name for node in graph(loaded)]
    assert names[:4] == ["documents", "tokenizer", "shards", "scores-base"] and "stage1" not in names and "soup" in names
    plan = plan_run(loaded)
    assert [s.work.name for s in plan.stages] == ["anneal-1", "anneal-2"]
    assert plan.stages[0].work.rate(0) == pytest.approx(loaded.base.training.lr)

    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    rows = stages(out)
    assert rows["base"]["digest"] == stage1.manifest.digest
    assert {"base/documents", "base/tokenizer", "base/shards", "base", "documents", "anneal-1", "soup"} <= set(rows)
    assert stage1.manifest.digest in {p["digest"] for p in rows["anneal-1"]["parents"]}  # type: ignore[attr-defined]
    soup = Artifact.open(next((out / "artifacts").glob("soup-*")))
    assert stage1.manifest.digest in {a.manifest.digest for a in soup.lineage()}
    scores = json.loads((out / "scores.json").read_text())
    earlier = json.loads((pretrained / "scores.json").read_text())
    first = {r["value"] for r in earlier if (r["stage"], r["metric"]) == ("stage1", "bits_per_byte")}
    assert {r["value"] for r in scores if r["stage"] == "base"} == first  # the same model on the same documents
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0  # all is found again
    assert load_recipe(out / "recipe.yaml") == loaded  # resolved: it needs the base no more to be read

    # An anneal ends at rate 0: nothing goes on from that, and its windows are still known.
    annealed = next((out / "artifacts").glob("anneal-1-*"))
    with pytest.raises(UserError, match="does not record a learning rate"):
        load_recipe(annealing(tmp_path, annealed))
    assert load_recipe(annealing(tmp_path, annealed), ["anneals=null"]).window_tokens == loaded.window_tokens == 64


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"base": {"checkpoint": "nowhere"}}, "nowhere: no checkpoint there"),
        ({"base": {"huggingface": "nowhere"}}, "no Hugging Face model here"),
        ({"base": {"checkpoint": "a", "huggingface": "b"}}, "give either checkpoint or huggingface"),
        ({}, "model: this key is missing"),
        ({**THEIRS, "model": {"d_model": 64}}, "model.d_model=64 is not the base's 32"),
        ({**THEIRS, "anneals": {"mix": "m", "tokens": 9, "seeds": [1]}}, "does not record a learning rate"),
        ({**THEIRS, "evaluation": {"tasks": [{"task": "prose"}]}}, "the recipe has no data"),
        ({**THEIRS, "posttraining": [{**SFT, "replay_rows": 2, "replay_mix": "m"}]}, "there is no mix 'm'"),
        ({**THEIRS, "posttraining": [{**SFT, "max_length": 97}]}, "max_length=97 is more than"),
    ],
)
def test_what_cannot_be_begun_with_is_said_in_one_line(sections: dict[str, object], says: str, tmp_path: Path) -> None:
    their_folder("olmo2", tmp_path / "theirs")
    with pytest.raises(UserError) as caught:
        graph(load_recipe(recipe(tmp_path, **sections)))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_chat_model_has_no_rate_to_anneal_from(pretrained: Path, tmp_path: Path) -> None:
    document = next((pretrained / "artifacts").glob("documents-*"))
    with pytest.raises(UserError, match="no checkpoint there"):
        load_recipe(annealing(tmp_path, document))
