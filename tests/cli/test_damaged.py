"""Files of our own that somebody damaged, or wrote: every command that reads one names it, in one line, with exit code 2."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lehr.cli.main import main
from lehr.evals.corpus import rows_of
from lehr.runtime.errors import UserError
from tests.cli.conftest import Again
from tests.data.given import byte_level
from tests.fuzz.made import run_folder, write

SCORES = "artifacts/scores-soup-1/scores.json"
DEEP = "[" * 100_000
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 132735\n"
NO_OBJECT = [
    *("", "{", "[]", "1", "null"),
    pytest.param(DEEP, id="deep"),
    pytest.param('{"n": ' + "9" * 5_000 + "}", id="long"),
    pytest.param("\udcff", id="no-utf8"),
]
SCORE: dict[str, Any] = {"stage": "soup", "task": "arithmetic", "split": "held_out", "metric": "accuracy", "value": 0.5}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command says on its one line; it has ended with 2."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert (code, said.err.count("\n")) == (2, 1), said.err[-2000:]
    return said.err


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize(
    "text",
    [
        *NO_OBJECT[:2], "{}", *NO_OBJECT[3:], POINTER, "[1]", "[[]]", "[{}]",
        json.dumps([SCORE | {"value": "much"}]), json.dumps([SCORE | {"stage": ["soup"]}]),
        json.dumps([SCORE, SCORE | {"n": {}}]),
    ],
)  # fmt: skip
def test_scores_that_are_none(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(run / SCORES, text)
    said = refused(capsys, "show", run)
    assert f"{run}/{SCORES}" in said and ("Delete it and run the same command again" in said or text == POINTER)


def test_scores_whose_numbers_are_odd_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A metric of another version, a value that is not a number any more: they are what was scored."""
    written(run / SCORES, json.dumps([SCORE | {"metric": "of_later"}, SCORE | {"value": float("nan"), "stderr": 1e400}]))
    assert main(["show", str(run)]) == 0
    assert "arithmetic" in capsys.readouterr().out


@pytest.mark.parametrize("text", NO_OBJECT[1:])
def test_a_dropped_document_that_is_none(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "artifacts/documents-1/dropped.jsonl.gz"
    rows = gzip.decompress(path.read_bytes()) + text.encode("utf-8", "surrogateescape") + b"\n"
    path.write_bytes(gzip.compress(rows))
    assert f"{path}:4: " in refused(capsys, "dropped", run)


@pytest.mark.parametrize("text", NO_OBJECT)
def test_a_hugging_face_folder_without_a_configuration(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "config.json", text)
    written(tmp_path / "tokenizer.json", byte_level(["<|endoftext|>"]).to_str())
    said = refused(capsys, "eval", tmp_path, "--tasks", "arithmetic", "--out", tmp_path / "out")
    assert f"{path}:" in said and "Fetch the model again" in said
    written(path, POINTER)
    assert "Git LFS pointer" in refused(capsys, "eval", tmp_path, "--tasks", "arithmetic", "--out", tmp_path / "out")


@pytest.mark.parametrize("text", NO_OBJECT)
def test_a_row_that_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "held_out.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "a"}\n' + text.encode("utf-8", "surrogateescape") + b"\n{}\n"))
    with pytest.raises(UserError, match="Run the stage that writes it again") as caught:
        list(rows_of(path))
    assert str(path) in caught.value.where and "\n" not in str(caught.value)
    path.write_bytes(gzip.compress(b""))
    assert list(rows_of(path)) == []


def _left_out(value: object) -> Callable[[Path], str]:
    def damage(checkpoint: Path) -> str:
        (checkpoint / "logs/stability.json").write_text(json.dumps({"left_out": value}))
        return "logs/stability.json: 'left_out' is missing or damaged"

    return damage


def _config(key: str, value: object) -> Callable[[Path], str]:
    def damage(checkpoint: Path) -> str:
        manifest = json.loads((checkpoint / "artifact.json").read_text())
        manifest["config"][key] = value
        (checkpoint / "artifact.json").write_text(json.dumps(manifest))
        return f"its configuration is damaged ({key}"

    return damage


def _shard(change: dict[str, object]) -> Callable[[Path], str]:
    def damage(checkpoint: Path) -> str:
        path = checkpoint.parent / "shards-1/web-00000.tokens"
        raw = path.read_bytes()
        length = int.from_bytes(raw[8:16], "little")
        header = json.dumps({**json.loads(raw[16 : 16 + length]), **change}).encode()[:length].ljust(length)
        path.write_bytes(raw[:16] + header + raw[16 + length :])
        return f"{path}: "

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *map(_left_out, (None, 1, [1], [[1]], [["a", "b"]])),
        _config("tokens", "many"), _config("tokens", -1), _config("mix", []), _config("optim", {"lr": "high"}),
        _config("batch_ramp", {"start": 0}), _config("data_seed", None),
        *map(_shard, ({"tokens": "9"}, {"tokens": -1}, {"tokens": 0}, {"tokenizer": 1}, {"dtype": []}, {"documents": None})),
    ],
)  # fmt: skip
def test_a_stage_whose_order_is_damaged(
    damage: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(run_folder(), tmp_path)
    assert main(["lookup", str(tmp_path), "--step", "0"]) == 0
    says = damage(tmp_path / "artifacts/stage1-1")
    assert says in refused(capsys, "lookup", tmp_path, "--step", "0")


@pytest.mark.parametrize("name", ["curves.jsonl", "stability.json"])
def test_a_damaged_log_of_a_finished_run(
    name: str, trained: Path, tmp_path: Path, again: Again, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logs are no part of an artifact's digest: of the same size, nothing but their reader notices."""
    out = tmp_path / "run"
    shutil.copytree(trained, out, symlinks=True)
    (path,) = out.glob(f"artifacts/stage1*/logs/{name}")
    path.write_text(path.read_text()[:-9] + 9 * "?")
    assert again(out) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{path}" in said and "Delete this artifact's folder and run the same command again" in said
