"""`lehr serve` as a command: how it begins, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact, Cost
from lehr.cli.main import main
from lehr.cli.serve import TOKEN
from lehr.interop.hf_export import export_hf
from lehr.train.checkpointing.checkpoint import save_checkpoint
from tests.serving.served import TOKENIZER, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder without a chat template."""
    place, model = tmp_path_factory.mktemp("served"), tiny()
    TOKENIZER.save(place)
    weights = {name: p.detach() for name, p in model.model.named_parameters()}
    return export_hf(weights, model.model.config, place / "tokenizer.json", None, place / "my model")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, model = tmp_path_factory.mktemp("artifact"), tiny()
    TOKENIZER.save(place)
    weights = {name: p.detach() for name, p in model.model.named_parameters()}
    save_checkpoint(place / "sft", model.model.config, weights, place, chat=True)
    Artifact.seal(
        place / "sft", kind="checkpoint", stage="sft", fingerprint="0" * 64, parents=[], config={}, code="0", meta={},
        cost=Cost(seconds=0.0, tokens=0, flops=0.0, energy_joules=0.0, energy_source="none", processes=1),
    )  # fmt: skip
    return place / "sft"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_it_answers(port: int, then: Callable[[], None]) -> threading.Thread:
    """A thread that does `then` once the server answers, and sends SIGTERM after that, or at last."""

    def watch() -> None:
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.05)
            then()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize(("which", "name", "chats"), [("folder", "my-model", False), ("checkpoint", "sft", True)])
def test_it_serves_a_folder_and_a_checkpoint_and_ends_at_a_signal(
    which: str, name: str, chats: bool, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    port, seen = _free_port(), dict[str, object]()

    def look() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as answer:
            seen["name"] = json.load(answer)["data"][0]["id"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            seen["metrics"] = b"lehr_serve_rows 3.0" in answer.read()

    thread = _until_it_answers(port, look)
    code = main(["serve", str(request.getfixturevalue(which)), "--port", str(port), "--rows", "3"])
    thread.join()
    said = capsys.readouterr()
    assert code == 143 and "SIGTERM" in said.err and "Traceback" not in said.err
    assert seen == {"name": name, "metrics": True}
    assert f"{name}: http://127.0.0.1:{port}/v1" in said.out and ("base model" in said.out) != chats
    with socket.socket() as probe:  # the port is free again
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_bad_input_is_one_line_and_exit_code_2(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert main(["serve", *arguments]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("error: ") and "\n" not in said
        return said

    assert "no such folder" in refused(str(tmp_path / "none"))
    assert "checkpoint" in refused(str(tmp_path))
    assert "no such folder" in refused(str(folder), "--weights", str(tmp_path / "none"), "--port", "0")
    assert f"{TOKEN} is not set" in refused(str(folder), "--host", "0.0.0.0")
    monkeypatch.setenv(TOKEN, "short")
    assert "is no token" in refused(str(folder)) and "short" not in refused(str(folder))
    monkeypatch.setenv(TOKEN, "0123456789abcdef")
    said = refused(str(folder), "--host", "192.0.2.1")  # nobody's address
    assert "cannot listen at 192.0.2.1" in said and "0123456789abcdef" not in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen" in refused(str(folder), "--port", str(taken.getsockname()[1]))
