"""Exports under the programs that they are for: llama.cpp and transformers give our ids and our greedy tokens."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.artifacts.artifact import Artifact, Cost
from lehr.config.model import Model
from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.interop.convert import export_to_gguf, export_to_hf
from lehr.interop.gguf_pre_tokenizer import PUBLISHED
from lehr.model.transformer import Transformer
from lehr.train.checkpointing.checkpoint import Loaded, load_checkpoint, save_checkpoint
from tests.data.given import byte_level, trained_ranks, written
from tests.model.foreign_readers import Job, Reading, compare, llama_cpp, ours, transformers, why_not
from tests.model.foreign_texts import SENTENCES, texts
from tests.model.test_convert import uneven_

GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2, "logits_scaling": 2.0}
# Both ways of every switch that changes what an exporter writes: heads tied or not, grouped queries, biases, part of RoPE.
SHAPES: dict[str, dict[str, Any]] = {
    "olmo2": {"n_kv_heads": 6},
    "olmo2, tied, grouped": {"n_kv_heads": 2, "tied_embeddings": True},
    "olmo": {"n_kv_heads": 6},
    "olmo, tied, grouped, clipped": {"n_kv_heads": 2, "tied_embeddings": True, "clip_qkv": 0.5},
    "granite": {"n_kv_heads": 2, **GRANITE},
    "granite, untied": {"n_kv_heads": 6, "tied_embeddings": False, **GRANITE},
    "granitemoe": {"n_kv_heads": 2, "n_experts": 4, "top_k": 2, **GRANITE},
    "granitemoe, untied": {"n_kv_heads": 3, "tied_embeddings": False, "n_experts": 5, "top_k": 1, **GRANITE},
    "stablelm": {"n_kv_heads": 6, "qkv_bias": True},
    "stablelm, grouped, no bias, half rotary": {"n_kv_heads": 2, "qkv_bias": False, "rope_fraction": 0.5},
}
SIZES: dict[str, Any] = {"vocab_size": 608, "n_layers": 2, "d_model": 96, "n_heads": 6, "mlp_hidden": 64, "max_seq_len": 128}
CHATS = [
    [Message("user", "What is 47 + 38?")],
    [Message("system", " Be kind.\n"), Message("user", "<|user|> ünd</s> 中文\n\n")],
    [Message("user", "a"), Message("assistant", "\n b <|endoftext|>"), Message("user", "and then?")],
]
PROMPTS, NEW = 12, 32
NEAR_TIES = 2  # at most, of the PROMPTS answers
LOGITS = 1e-4  # 2e-5 was seen


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train([*SENTENCES] * 2, 600).save(folder)  # some rows of the embedding stay unused
    return folder


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tokenizer: Path, tmp_path: Path) -> Artifact:
    """A chat model of the shape, of random weights."""
    family = request.param.partition(",")[0]
    return sealed(Model(family=family, **SIZES, **SHAPES[request.param]), tokenizer, tmp_path / "model")


def sealed(config: Model, tokenizer: Path, folder: Path) -> Artifact:
    model = Transformer(config)
    uneven_(model, 5)
    save_checkpoint(folder, config, {n: p.detach() for n, p in model.named_parameters()}, tokenizer, chat=True)
    facts: dict[str, Any] = {"parents": [], "config": {}, "meta": {}, "cost": Cost()}
    return Artifact.seal(folder, kind="checkpoint", stage="s", fingerprint="", code="", **facts)


def job_of(loaded: Loaded, count: int) -> Job:
    """`count` texts, chats, and prompts from all over the vocabulary."""
    draw = torch.Generator().manual_seed(7)
    rows = torch.randint(5, loaded.tokenizer.vocab_size, (PROMPTS, 40), generator=draw).tolist()
    return Job(texts(count), CHATS, [row[: 3 + 3 * i] for i, row in enumerate(rows)], NEW)


def agrees(mine: Reading, theirs: Reading, job: Job) -> None:
    found = compare(mine, theirs, job)
    assert not found.mismatches, "\n".join(found.mismatches[:5])
    assert found.near_ties <= NEAR_TIES and found.logits < LOGITS, found
    assert found.tokens >= (PROMPTS - NEAR_TIES) * NEW, found


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", SHAPES, indirect=True)
def test_llama_cpp_gives_our_ids_and_our_answers(checkpoint: Artifact, tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    export_to_gguf(checkpoint, tmp_path / "m.gguf", "f32")
    loaded = load_checkpoint(checkpoint)
    job = job_of(loaded, 1_500)
    agrees(ours(loaded, job), llama_cpp(tmp_path / "m.gguf", loaded, job, tmp_path), job)


def given(name: str, folder: Path) -> Tokenizer:
    """A tokenizer that llama.cpp cuts texts for under that name."""
    if name == "llama-bpe":
        ranks = written(trained_ranks("cl100k"), folder / "ranks.tiktoken")
        return Tokenizer.given(Config(path=str(ranks), pattern="cl100k", special_tokens={"<|endoftext|>": 400}))
    backend = byte_level(["<|endoftext|>"], "gpt2" if name == "gpt-2" else "cl100k")
    backend.add_tokens([" " * n for n in range(2, 12)])  # as GPT-NeoX's and OLMo 1's has them
    spec = json.loads(backend.to_str())
    spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = PUBLISHED[name][0][0]
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return Tokenizer.given(Config(path=str(folder / "tokenizer.json")))


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "smollm"])  # ours, above
def test_llama_cpp_gives_the_ids_of_every_tokenizer_that_is_exported(name: str, tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    import gguf

    given(name, tmp_path).save(tmp_path / "tokenizer")
    checkpoint = sealed(Model(n_kv_heads=6, **SIZES), tmp_path / "tokenizer", tmp_path / "model")
    export_to_gguf(checkpoint, tmp_path / "m.gguf", "f32")
    assert gguf.GGUFReader(tmp_path / "m.gguf").fields["tokenizer.ggml.pre"].contents() == name
    loaded, job = load_checkpoint(checkpoint), Job(texts(3_000), CHATS, [], 0)
    theirs = llama_cpp(tmp_path / "m.gguf", loaded, job, tmp_path)
    found = compare(ours(loaded, job), dataclasses.replace(theirs, not_read_back=[]), job)
    assert not found.mismatches, "\n".join(found.mismatches[:5])
    assert bool(theirs.not_read_back) == (name != "qwen2")  # docs/limits.md: what llama.cpp makes of "a ." under these names


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", SHAPES, indirect=True)
def test_transformers_gives_our_ids_and_our_answers(checkpoint: Artifact, tmp_path: Path) -> None:
    export_to_hf(checkpoint, tmp_path / "hf")
    loaded = load_checkpoint(checkpoint)
    job = job_of(loaded, 600)
    agrees(ours(loaded, job), transformers(tmp_path / "hf", loaded, job), job)


@pytest.mark.parametrize("checkpoint", ["granite"], indirect=True)
def test_every_way_to_differ_is_told(checkpoint: Artifact) -> None:
    loaded = load_checkpoint(checkpoint)
    job = Job(["a", "b"], CHATS[:1], [[7, 8], [9]], 4)
    mine = ours(loaded, job)
    same = compare(mine, mine, job)
    assert (same.mismatches, same.near_ties, same.tokens, same.logits) == ([], 0, 8, 0.0)
    assert "ids of 'b'" in told(mine, job, texts=[mine.texts[0], [1]])
    assert "ids of the chat" in told(mine, job, chats=[[1]])
    assert "'a' is not what its ids give back" in told(mine, job, not_read_back=["a"])
    assert f"an answer ends at {mine.ends} here, at [2] there" in told(mine, job, ends=[2])
    second = int(mine.logits[1][2].topk(2).indices[1])
    other = [mine.answers[0], [*mine.answers[1][:2], second, 0]]
    assert f"prompt 1, token 2: {mine.answers[1][2]} here, {second} there" in told(mine, job, answers=other)
    tied = compare(mine, dataclasses.replace(mine, answers=other), job, near=1e3)
    assert (tied.mismatches, tied.near_ties, tied.tokens) == ([], 1, 6)  # nothing is compared after a near tie


def told(mine: Reading, job: Job, **changes: Any) -> str:
    """The one mismatch of a reading with `changes`."""
    (only,) = compare(mine, dataclasses.replace(mine, **changes), job).mismatches
    return only


def test_without_llama_cpp_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_LLAMA_CPP", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: "node")
    assert "is absent: `make llama-cpp` installs it" in why_not()
    package = tmp_path / "node_modules/node-llama-cpp/package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "1.0.0"}')
    assert "is 1.0.0" in why_not()
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "no `node` on the path" in why_not()
