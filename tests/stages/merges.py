"""Checkpoints of one ancestry, made by hand, and their merges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lehr.artifacts.artifact import Artifact, Cost
from lehr.artifacts.folder_store import LocalStore
from lehr.config import load_recipe
from lehr.config.merging import MergeMethod
from lehr.data.tokenizer import Tokenizer
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.graph import graph
from lehr.pipeline.node import Node
from lehr.pipeline.run import run_stage
from lehr.stages.merge import SPEC, MergeConfig
from lehr.train.checkpointing.checkpoint import save_checkpoint
from tests.post.training import MODEL, TOKENIZER

E2E = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"
LONGER = MODEL.model_copy(update={"max_seq_len": 128})


class Zoo:
    """Checkpoints in a run's folder, made by hand: children are their parent with other weights."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "artifacts"
        self.tokenizer = root / "tokenizer"
        self.tokenizer.mkdir(parents=True)
        TOKENIZER.save(self.tokenizer)

    def make(self, name: str, parents: list[Artifact], seed: int, **said: Any) -> Artifact:
        folder, files = self.folder / name, said.pop("files", {})
        model = Transformer(said.pop("model", LONGER)).initialise(1)
        generator = torch.Generator().manual_seed(seed)
        weights = {k: p.detach() + 0.05 * torch.randn(p.shape, generator=generator) for k, p in model.named_parameters()}
        save_checkpoint(folder, model.config, weights, self.tokenizer, **{"chat": True, **said})
        for file, text in files.items():
            (folder / file).write_text(text)
        return Artifact.seal(
            folder, kind="checkpoint", stage=name, fingerprint=name, parents=[p.ref for p in parents], config={}, code="c",
            meta={}, cost=Cost(seconds=1.0, energy_joules=5.0, energy_source="rapl"), stage_kind="sft",
        )  # fmt: skip


def family(zoo: Zoo, **said: Any) -> tuple[Artifact, Artifact, Artifact]:
    """An ancestor two steps up, and two models that come from it."""
    root = zoo.make("root", [], 0)
    middle = zoo.make("middle", [root], 1)
    return root, zoo.make("code", [middle], 2, **said), zoo.make("math", [root], 3)


def run(root: Path, parents: list[Artifact], base: Artifact | None = None, **how: Any) -> Artifact:
    config = MergeConfig(how=MergeMethod.model_validate(how), seed=7)
    inputs = SPEC.inputs({"parents": parents, "base": [base] if base else []})
    return Artifact.open(run_stage(SPEC, "merge", config, inputs, StageContext(LocalStore(root))).uri)


def tensors(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path("model.safetensors"))


def steps(*merges: str, more: str = "") -> list[str]:
    sft = "optim: {lr: 1e-3}, steps: 3, batch_size: 4, examples: {list: 10}"
    made = f"{{kind: sft}}, {{kind: sft, name: code, parent: soup, {sft}}}, {{kind: dpo, parent: sft}}"
    return [f"posttraining=[{made}, {', '.join(f'{{kind: merge, {m}}}' for m in merges)}{more}]"]


def nodes(*merges: str, more: str = "") -> dict[str, Node]:
    return {node.name: node for node in graph(load_recipe(E2E, steps(*merges, more=more)))}


def foreign(zoo: Zoo) -> Artifact:
    return zoo.make("foreign", [zoo.make("elsewhere", [], 8)], 4)


def wide(zoo: Zoo) -> Artifact:
    return zoo.make("wide", [Artifact.open(zoo.folder / "root")], 4, model=LONGER.model_copy(update={"mlp_hidden": 32}))


def spoken(zoo: Zoo) -> Artifact:
    return zoo.make("spoken", [Artifact.open(zoo.folder / "root")], 4, files={"chat_template.jinja": "{{ messages }}"})


def retold(zoo: Zoo) -> Artifact:
    text = (zoo.tokenizer / "tokenizer.json").read_text()
    Tokenizer.train(["pack my box with five dozen jugs " * 30], 300).save(zoo.tokenizer)
    made = zoo.make("retold", [Artifact.open(zoo.folder / "root")], 4)
    (zoo.tokenizer / "tokenizer.json").write_text(text)
    return made


def judge(zoo: Zoo) -> Artifact:
    return zoo.make("judge", [Artifact.open(zoo.folder / "root")], 4, head="scalar")


def broken(zoo: Zoo) -> Artifact:
    made = zoo.make("broken", [Artifact.open(zoo.folder / "root")], 4)
    weights = tensors(made)
    weights = {k: t.clone() for k, t in weights.items()}
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, made.path("model.safetensors"))
    return made
