"""From files to rows: amounts, lengths, turns, evaluation texts; and a stage whose fingerprint is that of the content."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.chat import ConversationsSource, PreferencesSource
from lehr.config.decontamination import Action
from lehr.data.decontaminate import Decontaminator
from lehr.data.leaks import read_leaks
from lehr.data.synthetic.conversations import conversation
from lehr.data.tokenizer import Tokenizer
from lehr.pipeline.graph import graph
from lehr.post.pairs import read_pairs
from lehr.post.sets.drawing import drawn
from lehr.post.sets.pool import Pool
from lehr.post.sets.preferences import Preparing as PairsWish
from lehr.post.sets.preferences import prepare_preferences
from lehr.post.sets.prepare import Preparing, prepare_conversations
from lehr.runtime.errors import UserError
from tests.pipeline.test_begin import recipe, their_folder

TOKENIZER = Tokenizer.train(["question number answer is the of and " * 40], 300)
NOTHING = Decontaminator({}, 5, {})


def chats(path: Path, count: int, words: int = 3) -> Path:
    rows = [{"prompt": f"question {i}", "completion": "answer " * words, "id": f"c{i}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepare(tmp_path: Path, amounts: dict[str, Any], index: Decontaminator = NOTHING, **keys: Any) -> tuple[Pool, Any]:
    samples, max_length = keys.pop("samples", 0), keys.pop("max_length", 400)
    path = keys.pop("path", None) or str(chats(tmp_path / "chats.jsonl", 10))
    source = ConversationsSource(kind="conversations", path=path, **keys)
    out = tmp_path / "out"
    out.mkdir()
    sets = prepare_conversations(Preparing(amounts, {"mine": source}, samples, max_length, 5), TOKENIZER, index, out, print)
    return Pool(out), sets


@pytest.mark.parametrize(
    ("amounts", "samples", "mine", "math"),
    [({"mine": "all", "math": 4}, 0, 10, 4), ({"mine": 25, "math": 1}, 0, 25, 1), ({"mine": "70%", "math": 30}, 100, 70, 30)],
)
def test_amounts_are_numbers_all_or_shares(amounts: dict[str, Any], samples: int, mine: int, math: int, tmp_path: Path) -> None:
    pool, sets = prepare(tmp_path, amounts, samples=samples)
    assert len(pool) == mine + math and (sets["mine"].drawn, sets["math"].drawn) == (mine, math)
    times = Counter(tuple(pool[i].ids) for i in range(mine))
    assert len(times) == 10 and max(times.values()) - min(times.values()) <= 1  # each row equally often, but for one
    assert sum(s.share for s in sets.values()) == pytest.approx(1.0)
    assert sets["mine"].tokens == sum(len(pool[i].ids) for i in range(mine)) == int(pool.lengths[:mine].sum())
    assert sets["mine"].trained_tokens == sum(sum(pool[i].mask) for i in range(mine))
    said = json.loads((tmp_path / "out/sets.json").read_text())["mine"]
    assert said["shape"] == "prompt and completion" and said["files"] == 1


@given(st.integers(1, 30), st.integers(1, 90), st.integers(0, 9))
def test_rows_are_drawn_equally_often(size: int, count: int, seed: int) -> None:
    times = Counter(drawn(100, size, count, seed))
    assert times.total() == count and set(times) <= set(range(100, 100 + size))
    assert max(times.values()) - min(times.get(i, 0) for i in range(100, 100 + size)) <= 1


def test_what_is_too_long_is_dropped_or_cut_and_what_has_many_turns_dropped(tmp_path: Path) -> None:
    turns = [{"role": role, "content": f"{role} {i}"} for i in range(9) for role in ("user", "assistant")]
    rows = [{"messages": turns[: 2 * n]} for n in (1, 2, 9)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, _ = prepare(tmp_path, {"mine": "all"}, path=str(path))
    lengths = whole.lengths.tolist()
    for number, (keys, kept, dropped, cut) in enumerate(
        [({}, lengths[:2], 1, 0), ({"too_long": "cut"}, lengths[:2], 0, 1), ({"max_turns": 1}, lengths[:1], 2, 0)]
    ):
        (tmp_path / str(number)).mkdir()
        pool, sets = prepare(tmp_path / str(number), {"mine": "all"}, path=str(path), max_length=lengths[1], **keys)
        assert pool.lengths.tolist()[: len(kept)] == kept
        assert (sets["mine"].dropped.total(), sets["mine"].cut) == (dropped, cut)
        assert sets["mine"].read == 3 == sets["mine"].kept + dropped
    assert np.array_equal(pool[0].ids, whole[0].ids)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no conversation of 'mine' is left: longer than max_length 3"):
        prepare(tmp_path / "none", {"mine": "all"}, path=str(path), max_length=4)


def test_rows_with_an_evaluations_text_are_dropped_and_on_record(tmp_path: Path) -> None:
    index = Decontaminator({"quiz": ["the question number 7 is of answer"]}, 5, {"quiz": 1})
    rows = [{"prompt": "the question number 7 is of answer", "completion": "and"}, {"prompt": "another", "completion": "one"}]
    path = tmp_path / "quiz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool, sets = prepare(tmp_path, {"mine": "all"}, index, path=str(path))
    assert len(pool) == 1 and sets["mine"].dropped == {"contaminates quiz": 1}
    (line,) = gzip.decompress((tmp_path / "out/dropped.jsonl.gz").read_bytes()).splitlines()
    assert json.loads(line)["reason"] == "contaminates quiz"


@pytest.mark.parametrize("action", ["remove", "flag"])
def test_generated_rows_with_an_evaluations_text_are_found_too(tmp_path: Path, action: Action) -> None:
    """Every third conversation of a family is asked by an evaluation; what becomes of it is as the recipe says."""
    asked = [conversation("list", "train", number, 5).messages for number in range(30)]
    quiz = ["\n".join(message.content for message in messages) for messages in asked[::3]]
    index = Decontaminator({"quiz": quiz}, 6, {"quiz": 1}, action=action)
    pool, sets = prepare(tmp_path, {"list": 30}, index, max_length=999)
    leaks = list(read_leaks(tmp_path / "out"))
    assert {leak.id for leak in leaks} >= {f"list:{number}" for number in range(0, 30, 3)}
    assert {(leak.task, leak.source, leak.kept) for leak in leaks} == {("quiz", "list", action == "flag")}
    gone = sets["list"].dropped["contaminates quiz"]
    assert gone == (0 if action == "flag" else len({leak.id for leak in leaks}))
    assert sets["list"].read == 30 == sets["list"].kept + gone and len(pool) == 30  # some of those left come again


def test_preferences_are_paired_filtered_and_held_out_by_prompt(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "prompt": f"question {i}",
            "answers": [{"text": "of", "rating": 1}, {"text": "the", "rating": 9}, {"text": "is", "rating": 3}],
        }
        for i in range(60)
    ]
    rows += [{"prompt": "tie", "chosen": "a", "rejected": "b", "chosen_rating": 4, "rejected_rating": 4},
             {"prompt": "low", "chosen": "a", "rejected": "b", "chosen_rating": 7, "rejected_rating": 4},
             {"prompt": "long", "chosen": "answer " * 99, "rejected": "b"}]  # fmt: skip
    path = tmp_path / "prefs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept: dict[str, set[str]] = {}
    for rejected in ("random", "worst"):
        out = tmp_path / rejected
        out.mkdir()
        source = PreferencesSource(
            kind="preferences", path=str(path), rejected=rejected, min_chosen_rating=8.0,  # type: ignore[arg-type]
            held_out_share=0.2,
        )  # fmt: skip
        counts = prepare_preferences(PairsWish({"p": "all"}, {"p": source}, 0, 60, 5), TOKENIZER, NOTHING, out, print)
        lines = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
        assert counts == Counter(row["split"] for row in lines) and 3 <= counts["held_out"] <= 25
        assert {row["chosen"] for row in lines} == {"the"}
        kept[rejected] = {row["rejected"] for row in lines}
        assert len(read_pairs(out, "train", TOKENIZER)) == counts["train"]
        dropped = json.loads((out / "sets.json").read_text())["p"]["dropped"]
        assert dropped == {"both ratings are equal": 1, "chosen rated too low": 1, "longer than max_length": 1}
    assert kept == {"random": {"of", "is"}, "worst": {"of"}}


def test_of_few_pairs_one_prompt_is_held_out_and_what_was_lost_is_said(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i % 6}", "chosen": "the", "rejected": "of"} for i in range(12)]
    rows.append({"prompt": "question", "chosen": "answer " * 80, "rejected": "of"})
    (tmp_path / "prefs.json").write_text(json.dumps(rows))
    source = PreferencesSource(kind="preferences", path=str(tmp_path / "prefs.json"), held_out_share=0.001)
    said: list[str] = []
    wish = PairsWish({"p": "all"}, {"p": source}, 0, 60, 5)
    assert prepare_preferences(wish, TOKENIZER, NOTHING, tmp_path, said.append) == {"train": 10, "held_out": 2}
    assert "10 pairs, 2 held out; dropped: longer than max_length 1 (lehr dropped)" in said[-1]


def written(tmp_path: Path, **keys: Any) -> Path:
    """A recipe of somebody's model with their own conversations and preferences."""
    their_folder("olmo2", tmp_path / "theirs")
    chats(tmp_path / "chats.jsonl", 12)
    pairs = [{"prompt": f"question {i}", "chosen": "the answer", "rejected": "of"} for i in range(40)]
    (tmp_path / "prefs.json").write_text(json.dumps(pairs))
    sources = {"mine": {"kind": "conversations", "path": "chats.jsonl"}, "prefs": {"kind": "preferences", "path": "prefs.json"}}
    steps = [
        {"kind": "sft", "examples": {"mine": "all"}, "epochs": 2.0, "batch_size": 4, "optim": {"lr": 1e-3}},
        {"kind": "dpo", "examples": {"prefs": "all"}, "epochs": 1.0, "batch_size": 8, "optim": {"lr": 1e-4}},
    ]
    tasks = [{"task": "preference", "limit": 10}]
    chat = {"template": "chatml", "sources": sources}
    return recipe(tmp_path, base={"huggingface": "theirs"}, chat=chat, posttraining=steps, evaluation={"tasks": tasks}, **keys)


def test_somebodys_model_learns_from_their_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path), tmp_path / "run"
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    stages = {row["stage"]: row for row in json.loads((out / "lineage.json").read_text())}
    assert {"sft-rows", "sft", "pairs", "dpo", "scores-dpo"} <= set(stages)
    html = (out / "report.html").read_text()
    assert "Conversations and preferences" in html and "prompt and completion" in html
    capsys.readouterr()
    assert main(["data", "show", str(out), "--step", "sft", "--rows", "1"]) == 0
    said = capsys.readouterr()
    assert "<|im_start|>user\nquestion 0<|im_end|>" in said.out and "⟦answer answer answer <|im_end|>⟧" in said.out
    assert "12 rows" in said.err
    assert main(["data", "show", str(out), "--step", "nobody"]) == 2


def test_a_rows_fingerprint_is_that_of_its_files_content(tmp_path: Path) -> None:
    path = written(tmp_path)

    def described() -> dict[str, Any]:
        return next(node.config.described() for node in graph(load_recipe(path)) if node.name == "sft-rows")

    first = described()
    (tmp_path / "chats.jsonl").rename(tmp_path / "moved.jsonl")
    text = path.read_text().replace("chats.jsonl", "moved.jsonl")
    path.write_text(text)
    assert described() == first
    chats(tmp_path / "moved.jsonl", 13)
    assert described() != first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("posttraining.sft.examples={prefs: all}", "'prefs' is a source of preferences, and sft learns from conversations"),
        ("posttraining.dpo.examples={mine: all}", "'mine' is a source of conversations, and dpo learns from preferences"),
        ("posttraining.dpo.examples={theirs: all}", "there is no source 'theirs'. Sources of preferences are: prefs"),
        ("posttraining.sft.examples={mine: 40%}", "40% of what. Give the step its samples"),
        ("posttraining.sft.examples={mine: some}", "'some' is no amount"),
        ("posttraining.sft.examples={mine: 0}", "0 is no number of rows"),
        ("posttraining.sft.examples={math: all}", "of a family of generated conversations, which has no end"),
        ("posttraining.sft.examples={nobody: 3}", "sources in `chat` are: mine, prefs"),
        ("chat.sources.mine.path=absent.jsonl", "no such file"),
        ("chat.sources.mine.path='hf://datasets/x'", "such addresses are not read"),
    ],
)
def test_a_wrong_recipe_is_one_line_before_anything_runs(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--no-mlflow", "--set", change]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list((tmp_path / "run").glob("artifacts/*"))
