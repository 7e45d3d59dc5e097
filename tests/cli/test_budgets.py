"""Lengths against the model's context, and splits that would be empty: said before work, and no prompt is shortened unsaid."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.cli.main import main
from lehr.cli.talk import Speaker, converse
from lehr.runtime.errors import UserError
from tests.cli.conftest import E2E, SHORT, Again

BASE = "stage1 is a base model: it continues the text\n"
TEXT = "In the beginning was the word, and the word was with"


def _chat(
    run: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code = main(["chat", str(run), *more])
    said = capsys.readouterr()
    return (said.out if code == 0 else f"exit {code}"), said.err


def test_an_answer_longer_than_the_context_leaves_the_prompt_whole(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, said = _chat(trained, TEXT, capsys, monkeypatch, "--max-new-tokens", "500")
    room = int(said.split("answers of up to ")[1].split()[0])
    assert 60 < room < 128 and f"{128 - room} of the context's 128 are taken" in said
    assert _chat(trained, TEXT, capsys, monkeypatch, "--max-new-tokens", str(room)) == (answer, BASE)
    short, said = _chat(trained, TEXT, capsys, monkeypatch, "--max-new-tokens", "8")
    assert answer.startswith(short.strip()) and said == BASE
    code, said = _chat(trained, TEXT * 40, capsys, monkeypatch)
    assert code == "exit 2" and "the model's context is 128" in said and said.count("\n") == 1


def test_in_a_conversation_a_message_too_long_is_said_and_forgotten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def reply(messages: list[dict[str, str]]) -> str:
        seen.append([m["content"] for m in messages])
        if len(messages[-1]["content"]) > 9:
            raise UserError("too long")
        return "yes"

    monkeypatch.setattr("sys.stdin", io.StringIO("far too long a message\nshort\n"))
    converse(Speaker(reply, chat=True, context=128), "m")
    said = capsys.readouterr()
    assert seen == [["far too long a message"], ["short"]] and "too long" in said.err and "model> yes" in said.out
    assert "conversation and answer fit 128 tokens" in said.out and "base model" not in said.out


def _until(terminal: int, words: bytes) -> bytes:
    said = b""
    while words not in said:
        assert select.select([terminal], [], [], 60)[0], said
        said += os.read(terminal, 4096)
    return said


def test_a_line_can_be_edited_on_a_terminal() -> None:
    pytest.importorskip("readline")
    code = "from lehr.cli.talk import *; converse(Speaker(lambda messages: '<' + messages[-1]['content'] + '>', True, 9), 'm')"
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, cwd=E2E.parents[2]) as talk:
        _until(ours, b"you> ")
        os.write(ours, b"yes\x1b[D\x1b[D\x7f\n")  # two to the left, and take away what stands before
        said = _until(ours, b"\nyou> ")
        os.write(ours, b"/quit\n")
    assert b"model> <es>" in said and talk.returncode == 0
    os.close(ours)
    os.close(theirs)


def test_temperatures(trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = _chat(trained, TEXT, capsys, monkeypatch, "--max-new-tokens", "20")
    assert _chat(trained, TEXT, capsys, monkeypatch, "--max-new-tokens", "20", "--temperature", "1e-45") == greedy
    for wrong in ("nan", "inf", "-1"):
        code, said = _chat(trained, TEXT, capsys, monkeypatch, "--temperature", wrong)
        assert code == "exit 2" and "--temperature" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evaluation.max_new_tokens", "128"),
        ("posttraining.rlvr.max_new_tokens", "4096"),
        ("posttraining.dpo.pairs.max_new_tokens", "128"),
        ("posttraining.rlvr.temperature", "1e-45"),
    ],
)
def test_budgets_are_checked_at_validation(key: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(E2E), "--set", f"{key}={value}"]) == 2
    said = capsys.readouterr().err
    assert f"{key}=" in said and said.count("\n") == 1


def _until_refused(out: Path, capsys: pytest.CaptureFixture[str], *sets: str, recipe: Path = E2E) -> tuple[set[str], str]:
    """Stages that were made before a run ended with 2, and what it said."""
    words = [word for value in sets for word in ("--set", value)]
    assert main(["run", str(recipe), "--out", str(out), "--no-mlflow", *words]) == 2
    said = capsys.readouterr()
    return {p.name.rpartition("-")[0] for p in (out / "artifacts").iterdir()}, said.out + said.err


def test_prompts_and_answers_are_measured_as_soon_as_there_is_a_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ("posttraining.rlvr.max_new_tokens=100", "parallel.processes=1")
    made, said = _until_refused(tmp_path / "run", capsys, *sets)
    assert made == {"documents", "tokenizer"}
    assert "posttraining.rlvr: prompts have up to" in said and "Lower its max_new_tokens to" in said


@pytest.mark.parametrize(
    ("ids", "says"),
    [("one", "of one document, 'one'"), ("", "documents fell into data.held_out_share=0")],
)
def test_an_empty_split_is_said_before_training_with_the_reason(
    ids: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = re.findall(r"\w+", "and he went up to the hill that was by the sea with the men of the town who")
    texts = [" ".join(words[(i * j) % len(words)] for j in range(1, 60)) + f". So it was told {i}." for i in range(8)]
    rows = [{"text": text, **({"id": ids} if ids else {})} for text in texts]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"data.sources.bible={{kind: jsonl, path: {tmp_path / 'data.jsonl'}, license: none}}"
    filters = "data.filters={language: {keep: [en, unknown]}, gopher_repetition: null, gopher_quality: null}"
    made, said = _until_refused(
        tmp_path / "run", capsys, *SHORT, source, filters, "data.dev_share=0.0", "data.held_out_share=0.0"
    )
    assert made == {"documents"} and says in said and "which the task prose reads" in said


def test_a_mix_of_a_later_stage_is_checked_before_the_first_is_trained(
    tmp_path: Path, again: Again, capsys: pytest.CaptureFixture[str]
) -> None:
    """An anneal's mix repeats its text too often: known when there are shards, and not after pretraining."""
    options = ["ramp={mix: better, tokens: 8_192_000}"]
    assert again(tmp_path / "run", *options) == 2
    said = capsys.readouterr()
    assert "error: ramp: source 'arithmetic' would be repeated" in said.err and "max_epochs=8" in said.err
    assert "shards: done" in said.out and "stage1: started" not in said.out
