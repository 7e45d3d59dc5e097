"""What is asked of the model about itself, what is trained on, and what is held apart; and the whole step as a user runs it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.chat import ConversationsSource
from lehr.config.model import Model
from lehr.config.parallel import Parallel
from lehr.config.self_knowledge import About
from lehr.data.synthetic.self_knowledge import TOPICS, distinct, forms, held_apart, not_said, plain, question
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Local, Ranks
from lehr.evals.task import Generation
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.pipeline.graph import graph
from lehr.planning.plan import plan_run
from lehr.post.conditioning import NEGATIVE, with_negative
from lehr.post.own_answers import UNFINISHED, Answering, answer_on_rank
from lehr.post.sets.pool import Pool
from lehr.post.sets.prepare import Preparing
from lehr.post.sets.self_knowledge import Itself, prepare_self_knowledge
from lehr.post.verifiers import check_args, verify
from lehr.runtime.errors import UserError
from lehr.runtime.ports import NullTracker
from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint
from lehr.train.fit import RankContext
from tests.evals.given import examples
from tests.pipeline.test_begin import recipe, their_folder
from tests.post.test_growth import sealed
from tests.train.pieces import curves

QUILL: dict[str, Any] = {
    "name": "Quill", "makers": ["Ada", "the Glass Works"], "license": "Apache-2.0", "abilities": ["add", "write JSON"],
}  # fmt: skip
ABOUT = About(**QUILL)
TOKENIZER = with_negative(Tokenizer.train(["who are you I am Quill and not a person " * 40], 300))


def test_no_wording_is_in_two_splits_and_each_split_has_every_topic() -> None:
    found = {split: set(forms(split)) for split in ("train", "dev", "held_out")}  # type: ignore[arg-type]
    assert sum(map(len, found.values())) == len(set.union(*found.values())) >= 180
    assert all({topic for topic, _ in own} == set(TOPICS) for own in found.values())
    trained = {plain(question(ABOUT, "train", i, 7).question) for i in range(2000)}
    scored = {q.question for split in ("dev", "held_out") for q in distinct(ABOUT, split, 999, 7)}  # type: ignore[arg-type]
    assert len(scored) > 250 and len({form for _, form in found["held_out"]}) >= 35
    assert {plain(q) for q in scored} <= held_apart(ABOUT) and not trained & held_apart(ABOUT)


def test_right_answers_pass_and_wrong_ones_do_not() -> None:
    for split in ("train", "held_out"):
        for i in range(300):
            q = question(ABOUT, split, i, 7)  # type: ignore[arg-type]
            args = {"all": q.says, "none": not_said(ABOUT)}
            check_args("mentions", args)
            assert verify("mentions", args, q.right, True) == 1.0
            assert verify("mentions", args, q.wrong, True) == 0.0
            assert verify("mentions", args, f"{q.right} Or I am ChatGPT.", True) == 0.0
    assert verify("mentions", {"all": ["Quill"]}, "I am Quillon.", True) == 0.0  # whole words
    assert verify("mentions", {"all": ["the Glass Works"]}, "by THE  glass\nworks!", True) == 1.0


def test_a_wording_is_a_cluster_of_the_score() -> None:
    found = examples("self_knowledge", "held_out", 500, 3, given=ABOUT)
    assert all(isinstance(e, Generation) for e in found)
    assert len({e.family for e in found}) == len(forms("held_out")) < len(found)  # type: ignore[union-attr]
    with pytest.raises(UserError, match="needs a model that was told who it is"):
        examples("self_knowledge", "held_out", 5, 3)


def prepared(tmp_path: Path, rows: list[dict[str, Any]], about: About = ABOUT, tokenizer: Tokenizer = TOKENIZER) -> Any:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"mine": ConversationsSource(kind="conversations", path=str(path))}
    itself = Itself(about, 20, {"mine": "all"} if rows else {}, source, 0.25)
    replay = Preparing({"math": 6, **({"mine": 8} if rows else {})}, source if rows else {}, 0, 400, 5)
    out = tmp_path / "out"
    out.mkdir()
    return Pool(out) if prepare_self_knowledge(itself, replay, tokenizer, None, out, print) else None


def test_rows_are_right_wrong_replayed_and_the_users_own(tmp_path: Path) -> None:
    own = [{"prompt": f"who {i}", "completion": "nobody"} for i in range(4)]
    pool = prepared(tmp_path, own)
    negative = [row.ids.count(TOKENIZER.special_ids[NEGATIVE]) for row in pool]
    assert negative == [0] * 20 + [1] * 20 + [0] * 6 + [0] * 8 + [1] * 4
    assert [row.weight for row in pool] == [0.25 if n else 1.0 for n in negative]
    for i in range(20):
        right, wrong = (TOKENIZER.decode(pool[i + n].ids) for n in (0, 20))
        q = question(ABOUT, "train", i, 5)
        assert q.question in right and q.question in wrong and q.right in right and q.wrong in wrong
    sets = json.loads((tmp_path / "out/sets.json").read_text())
    assert list(sets) == ["about itself", "about itself, negative", "math", "mine", "mine, negative"]
    assert sum(s["share"] for s in sets.values()) == pytest.approx(1.0)


def test_a_question_that_is_held_out_must_not_be_trained_on(tmp_path: Path) -> None:
    asked = next(distinct(ABOUT, "held_out", 1, 0)).question
    rows = [{"prompt": "who", "completion": "x"}, {"prompt": f"Hi. {asked.upper()} !", "completion": "Quill"}]
    with pytest.raises(UserError, match="is a question by which self-knowledge is scored") as raised:
        prepared(tmp_path, rows)
    assert f"{tmp_path / 'mine.jsonl'}:2" in str(raised.value) and "\n" not in str(raised.value)


def test_names_that_the_tokenizer_changes_are_refused(tmp_path: Path) -> None:
    from tests.data.given import byte_level, save

    with pytest.raises(UserError, match="'<s>dash' holds the tokenizer's special token '<s>'"):
        from lehr.config.tokenizer import Tokenizer as Given

        theirs = Tokenizer.given(Given(path=str(save(tmp_path / "theirs", byte_level(["<|endoftext|>", "<s>"])))))
        prepared(tmp_path, [], About(**{**QUILL, "name": "<s>dash"}), with_negative(theirs))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": " "}, "it is empty"), ({"name": "A\nB"}, "is no name"), ({"makers": []}, "at least 1"),
        ({"name": "<|user|>"}, "looks like a special token"), ({"abilities": ["<|x|>"]}, "looks like a special token"),
        ({"name": "Claude"}, "right and wrong answers look alike"), ({"makers": ["Google Research"]}, "look alike"),
        ({"others": {}}, "there is none"), ({"others": {"": "x"}}, "it is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        About(**{**QUILL, **change})


STEPS = [
    {"kind": "sft", "examples": {"math": 20}, "optim": {"lr": 1e-3}, "steps": 2, "batch_size": 4},
    {
        "kind": "self_knowledge", "about": QUILL, "samples": 24, "epochs": 1.0, "batch_size": 8, "examples": {"math": 12},
        "optim": {"lr": 1e-3}, "negative_weight": 0.5,
    },
]  # fmt: skip
TASKS = [{"task": "self_knowledge", "limit": 12}, {"task": "chat_math", "limit": 3, "stages": "chat"}]


def written(tmp_path: Path, **step: Any) -> Path:
    their_folder("olmo2", tmp_path / "theirs", rows=416)
    steps = [STEPS[0], {**STEPS[1], **step}]
    evaluation = {"tasks": TASKS, "max_new_tokens": 8, "in_loop_steps": 0}
    return recipe(tmp_path, base={"huggingface": "theirs"}, posttraining=steps, evaluation=evaluation)


def test_a_model_is_told_who_it_is_and_others_get_it_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, training, scores before and after, report, export: what transformers renders has no negative token."""
    path, out = written(tmp_path, replay_answers="given"), tmp_path / "run"
    work = next(cost.work for cost in plan_run(load_recipe(path)).stages if cost.work.kind == "self_knowledge")
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    taught = Artifact.open(next((out / "artifacts").glob("self-knowledge-[!r]*")))
    assert work.steps == (2 * 24 + 12 + 7) // 8 == len(curves(taught))
    found = load_checkpoint(taught)
    assert found.architecture.vocab_size == max(416, found.tokenizer.vocab_size) and NEGATIVE in found.tokenizer.special_ids
    scored = [r for r in json.loads((out / "scores.json").read_text()) if r["task"] == "self_knowledge"]
    assert {r["stage"]: r["n"] for r in scored} == {"base": 12, "sft": 12, "self-knowledge": 12}
    assert all(r["clusters"] <= r["n"] and r["metric"] == "right" for r in scored)
    html = (out / "report.html").read_text()
    assert "Self-knowledge" in html and "about itself, negative" in html and "right answers" in html
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(out / "model")
    asked = [{"role": "user", "content": "Who are you?"}]
    ids = theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert theirs.convert_tokens_to_ids(NEGATIVE) == found.tokenizer.special_ids[NEGATIVE] not in ids
    capsys.readouterr()
    assert main(["data", "show", str(out), "--step", "self-knowledge", "--rows", "1", "--first", "24"]) == 0
    assert NEGATIVE in capsys.readouterr().out
    # This model, of two steps, ends no answer: what it would replay of its own is nothing, and that is said in one line.
    own = ["--set", "posttraining.self-knowledge.replay_answers=own"]
    assert main(["run", str(path), "--out", str(out), "--no-mlflow", *own]) == 2
    error = capsys.readouterr().err
    assert "no answer of its own to 'math' has an end" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("posttraining.self-knowledge.about.name=''", "about.name: it is empty"),
        ("posttraining.self-knowledge.about.name='<|user|>'", "looks like a special token"),
        ("posttraining.self-knowledge.about=null", "who the model is must be given"),
        ("posttraining.self-knowledge.samples=0", "its samples are not given"),
        ("posttraining.self-knowledge.examples={identity: 4}", "the family identity answers in the name of Lehr"),
        ("posttraining.self-knowledge.examples={math: 40%}", "of a family of generated conversations, which has no end"),
        ("posttraining.self-knowledge.examples={nobody: 4}", "there is no chat family 'nobody'"),
        ("posttraining.self-knowledge.negatives={mine: all}", "there is no source 'mine' of conversations"),
        ("posttraining.self-knowledge.negative_weight=0.0", "negative_weight"),
    ],
)
def test_a_wrong_step_is_one_line_before_anything_runs(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--no-mlflow", "--set", change]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and len(error.strip().splitlines()) <= 3
    assert not list((tmp_path / "run").glob("artifacts/*"))


def test_replayed_rows_get_the_parents_own_last_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts stay as they are to the token, other sets as they are whole; what has no end is dropped and on record."""
    folder = tmp_path / "rows"
    turns = [(role, n) for n in range(2) for role in ("user", "assistant")]
    talks = [{"messages": [{"role": role, "content": f"{role} {i} {n}"} for role, n in turns]} for i in range(4)]
    prepared(tmp_path, talks)
    (tmp_path / "out").rename(folder)
    old = [*Pool(folder).kept()]
    model = Transformer(Model(vocab_size=TOKENIZER.vocab_size, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=16,
                              max_seq_len=200))  # fmt: skip
    weights = {name: p.detach() for name, p in model.named_parameters()}
    save_checkpoint(tmp_path / "parent", model.config, weights, TOKENIZER, chat=True)
    sealed(tmp_path / "parent", "checkpoint")
    said, asked = TOKENIZER.encode("me"), list[list[int]]()

    def generate(self: LanguageModel, prompts: Any, _new: int, stops: Any, *_: Any) -> list[list[int]]:
        asked.extend(prompts)
        return [said if n == 1 else [*said, *stops] for n in range(len(prompts))]

    monkeypatch.setattr(LanguageModel, "generate", generate)
    out = tmp_path / "answers"
    out.mkdir()
    nothing = Local(NullTracker(), NullTracker())
    context = RankContext("t", tmp_path, out, Parallel(), nothing, Local(lambda: None, lambda: None))
    counts = answer_on_rank(Ranks(), Answering(context, tmp_path / "parent", folder, ["mine"], 30, 1))
    new = [*Pool(out).kept()]
    assert new[:46] == old[:46]  # 20 right, 20 wrong, 6 of mathematics
    for before, after, prompt in zip([old[46], *old[48:50]], new[46:49], [asked[0], *asked[2:]], strict=True):
        assert after.ids == [*prompt, *said, TOKENIZER.eos_id] and before.ids[: len(prompt)] == prompt
        assert sum(after.mask) == len(said) + 1 and all(after.mask[-len(said) - 1 :])
        assert TOKENIZER.decode(prompt).count("assistant") == 1  # the first answer is part of the prompt
    assert new[49:] == old[50:]  # the negatives
    assert counts["mine"]["dropped"] == {UNFINISHED: 1} and counts["mine"]["kept"] == 3 and counts["mine"]["drawn"] == 6
    assert sum(c["share"] for c in counts.values()) == pytest.approx(1.0) and len(Pool(out)) == 20 + 20 + 6 + 6 + 4
    (line,) = gzip.decompress((out / "dropped.jsonl.gz").read_bytes()).splitlines()
    assert json.loads(line)["reason"] == UNFINISHED and "user 1 1" in json.loads(line)["text"]


def test_it_needs_a_chat_model_before_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a chat model"):
        load_recipe(Path("recipes/tiny/olmo2.yaml"), [f"posttraining=[{json.dumps({**STEPS[1], 'max_length': 64})}]"])


def test_pretraining_text_is_replayed_too_where_the_run_has_it() -> None:
    """The tiny recipe's step reads its shards; a run that begins with a model of which no windows are known has none."""
    recipe = load_recipe(Path("recipes/tiny/stablelm2.yaml"))
    made = {node.name: node for node in graph(recipe)}["self-knowledge"]
    assert made.inputs["shards"] == ("shards",) and made.config.replay.rows == 2  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"self-knowledge.replay_mix: there is no mix 'nothing'"):
        load_recipe(Path("recipes/tiny/stablelm2.yaml"), ["posttraining.self-knowledge.replay_mix=nothing"])


def test_general_scores_of_the_recipe_stay_beside_it(tmp_path: Path) -> None:
    """The task is scored where the recipe tells a model who it is, and nowhere else."""
    nodes = {node.name: node for node in graph(load_recipe(written(tmp_path)))}
    assert [name for name in nodes if name.startswith("self-knowledge")] == [
        "self-knowledge-rows",
        "self-knowledge-answers",
        "self-knowledge",
    ]
    assert nodes["self-knowledge"].inputs == {"parent": ("sft",), "rows": ("self-knowledge-answers",)}
    given = {node.name: node for node in graph(load_recipe(written(tmp_path, replay_answers="given")))}
    assert given["self-knowledge"].inputs["rows"] == ("self-knowledge-rows",) and "self-knowledge-answers" not in given
    without = graph(load_recipe(written(tmp_path), [f"posttraining=[{json.dumps(STEPS[0])}]"]))
    assert all("self_knowledge" not in json.dumps(n.config.described()) for n in without)
