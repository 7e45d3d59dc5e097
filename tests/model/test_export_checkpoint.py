"""A whole checkpoint with our own tokenizer and chat template, as `lehr chat` and transformers see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lehr.artifacts.artifact import Artifact, Cost
from lehr.config.model import Model
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.interop.hf_export import export_hf, verify_hf
from lehr.model.transformer import Transformer
from lehr.post.chat import chat_template, render
from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
CONVERSATION = [
    Message("system", " Be brief. "),
    Message("user", "What is 47 + 38? <|assistant|> 1"),
    Message("assistant", "85, für 2 €"),
    Message("user", "Sure?\n\nReally"),
]


@pytest.fixture(params=[True, False], ids=["chat", "base"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    tokenizer = Tokenizer.train(["What is 47 + 38? The answer is 85. And 12 + 3?"] * 20, 300)
    tokenizer.save(tmp_path)
    config = Model(vocab_size=304, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, mlp_hidden=48, max_seq_len=128)
    folder = tmp_path / "run/artifacts/rlvr-1"
    weights = {name: p.detach() for name, p in Transformer(config).initialise(1).named_parameters()}
    save_checkpoint(folder, config, weights, tmp_path, chat=request.param)
    return Artifact.seal(
        folder, kind="checkpoint", stage="rlvr", fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost()
    )


def chat(folder: Path, message: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lehr.cli.main", "chat", str(folder), "--max-new-tokens", "8", *options]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=ROOT, input=message, capture_output=True, text=True, check=False, env=environment)


def test_chat_answers_a_pipe_and_refuses_silence_and_damage(checkpoint: Artifact) -> None:
    run = checkpoint.folder.parents[1]
    first, again = (chat(run, "What is 12 + 3?\n", "--temperature", "1", "--seed", "5") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == again.stdout and first.stdout.endswith("\n")
    silent = chat(run, " \n")
    assert silent.returncode == 2 and "no message on standard input" in silent.stderr
    weights = checkpoint.path("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4])
    damaged = chat(run, "Hello")
    assert damaged.returncode == 2 and "file truncated" in damaged.stderr and damaged.stderr.count("\n") == 1


def test_export_is_the_same_model_with_the_same_chat(checkpoint: Artifact, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    template = chat_template(loaded.tokenizer, marked=True) if loaded.chat else None
    state = {name: p.detach() for name, p in loaded.model.named_parameters()}
    folder = export_hf(state, loaded.architecture, checkpoint.path("tokenizer.json"), template, tmp_path / "model")
    ids, _ = render(CONVERSATION, loaded.tokenizer, add_generation_prompt=True)
    result = verify_hf(folder, loaded.model.eval(), [torch.tensor([ids[:100]])])
    assert result.ok and result.max_abs_difference < 2e-5

    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    text = "Naïve £5 — 12,345\n\tcode = {}"
    assert theirs(text).input_ids == loaded.tokenizer.encode(text)
    assert theirs.decode(theirs(text).input_ids) == text
    assert (theirs.eos_token_id, theirs.pad_token_id) == (loaded.tokenizer.eos_id, loaded.tokenizer.pad_id)
    if loaded.chat:
        rows = [m.row() for m in CONVERSATION]
        assert theirs.apply_chat_template(rows, add_generation_prompt=True, return_dict=False) == ids
