"""A small run's folder and a small Hugging Face folder, as bytes by path: what gets damaged."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lehr.artifacts.artifact import MANIFEST, Artifact, ArtifactRef, Cost, Kind
from lehr.config import load_recipe, recipe_yaml
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.data.document import Document, write_jsonl
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.interop.hf_weights import save_hf
from lehr.model.transformer import Transformer
from lehr.train.checkpointing.checkpoint import save_checkpoint
from tests.data.given import TEXTS, byte_level


class Files(dict[str, bytes]):
    """Content by path."""

    def __repr__(self) -> str:
        return f"{len(self)} files"


E2E = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"
STAGE = {"mix": {"weights": {"web": 1.0}}, "tokens": 512, "batch_size": 2, "sequence_length": 32, "data_seed": 7}


def read(folder: Path) -> Files:
    return Files({p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})


def write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _sealed(folder: Path, kind: Kind, stage: str, parents: list[ArtifactRef], **config: Any) -> ArtifactRef:
    cost = Cost(seconds=9.0, tokens=512, flops=2e9, energy_joules=18.0, energy_source="estimate")
    return Artifact.seal(
        folder, kind=kind, stage=stage, fingerprint="f", parents=parents, config=config, code="c", meta={"s": stage}, cost=cost
    ).ref


@cache
def run_folder() -> Files:
    """documents -> tokenizer -> shards -> stage1, with scores, lineage and the pinned recipe."""
    with tempfile.TemporaryDirectory() as beside:
        root, artifacts = Path(beside), Path(beside) / "artifacts"
        documents = [Document(f"d{i}", "web", text * 3) for i, text in enumerate(TEXTS)]
        dropped = [{"id": "x/1", "source": "web", "reason": "too few words", "text": "short"}]
        for name, rows in {"dropped": dropped, "dev": [{"id": "d9", "source": "web", "text": TEXTS[0]}]}.items():
            write_jsonl(artifacts / f"documents-1/{name}.jsonl.gz", rows)
        (artifacts / "documents-1/funnel.json").write_text(json.dumps({"web": {"read": 4, "train": 3, "dropped": {}}}))
        corpus = _sealed(artifacts / "documents-1", "documents", "documents", [])
        tokenizer = Tokenizer.train([d.text for d in documents], 300)
        for name in ("tokenizer-1", "shards-1"):
            (artifacts / name).mkdir(parents=True)
        tokenizer.save(artifacts / "tokenizer-1")
        words = _sealed(artifacts / "tokenizer-1", "tokenizer", "tokenizer", [corpus])
        write_shards(documents, "web", tokenizer, artifacts / "shards-1")
        shards = _sealed(artifacts / "shards-1", "shards", "shards", [corpus, words])
        _checkpoint(artifacts / "stage1-1", artifacts / "tokenizer-1", [shards, words])
        score = {"stage": "stage1", "task": "arithmetic", "split": "held_out", "metric": "accuracy"}
        (root / "scores.json").write_text(json.dumps([score | {"value": 0.5, "stderr": 0.1, "n": 100, "seed": 7}]))
        (root / "recipe.yaml").write_text(recipe_yaml(load_recipe(E2E)))
        (root / "recipes").mkdir()
        (root / "recipes/pinned.yaml").write_text("")
        made = [Artifact.open(folder, verify=False).manifest for folder in sorted(artifacts.iterdir())]
        (root / "lineage.json").write_text(json.dumps([manifest.model_dump(mode="json") for manifest in made]))
        files = read(root)
        prefix = f"{root}/".encode()
        return Files({name: raw.replace(prefix, b"") if name.endswith(".json") else raw for name, raw in files.items()})


def _checkpoint(folder: Path, tokenizer: Path, parents: list[ArtifactRef]) -> None:
    torch.manual_seed(1)
    config = Model(vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, mlp_hidden=16, max_seq_len=64)
    weights = {name: p.detach() for name, p in Transformer(config).named_parameters()}
    training = {"lr": 1e-3, "batch_size": 2, "sequence_length": 32}
    save_checkpoint(folder, config, weights, tokenizer, chat=False, training=training)
    (folder / "logs").mkdir()
    (folder / "logs/stability.json").write_text(json.dumps({"left_out": [[1, 2]]}))
    (folder / "logs/incidents.txt").write_text("2026-12-01 06:00:00 UTC stage1: went on after step 3\n")
    _sealed(folder, "checkpoint", "stage1", parents, optim=Optim(lr=1e-3).model_dump(), **STAGE)


@cache
def hugging_face_folder() -> Files:
    """A model with two layers and a byte-level tokenizer, as its owner would save them."""
    with tempfile.TemporaryDirectory() as beside:
        torch.manual_seed(1)
        backend = byte_level(["<|endoftext|>", "<|pad|>"])
        config = Model(vocab_size=416, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, mlp_hidden=16, max_seq_len=64)
        folder = save_hf(Transformer(config), beside, eos=backend.token_to_id("<|endoftext|>"))
        (folder / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>", "add_bos_token": False}))
        return read(folder)


def vouched(files: Files, artifact: str) -> Files:
    """The files with a manifest of `artifact` that vouches for them as they are: somebody else's honest, hostile artifact."""
    place = f"{artifact}/{MANIFEST}"
    manifest = json.loads(files[place])
    own = {n.removeprefix(f"{artifact}/"): raw for n, raw in files.items() if n.startswith(f"{artifact}/") and n != place}
    with tempfile.TemporaryDirectory() as beside:
        write(own, Path(beside))
        sealed = Artifact.seal(
            Path(beside), kind=manifest["kind"], stage=manifest["stage"], fingerprint="f", config=manifest["config"], code="c",
            meta=manifest["meta"], cost=Cost(), parents=[ArtifactRef.model_validate(parent) for parent in manifest["parents"]],
        )  # fmt: skip
        return Files({**files, place: sealed.path(MANIFEST).read_bytes()})
