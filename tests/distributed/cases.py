"""Tiny stretches of pretraining under every layout, module-level so that other ranks can import them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from lehr.config.mix import Mix
from lehr.config.model import Model
from lehr.config.optim import Guard, Optim
from lehr.config.parallel import Parallel
from lehr.config.schedule import ConstantSchedule
from lehr.config.training import Compile, Precision
from lehr.data.document import Document
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.distributed.ranks import Local, Ranks
from lehr.runtime import seeds
from lehr.runtime.ports import NullTracker
from lehr.train.fit import RankContext
from lehr.train.next_token import TrainingPhase
from lehr.train.phase import PretrainSpec
from lehr.train.pretraining import train_on_rank

T, ROWS = 16, 8
OPTIM = Optim(lr=3e-3, z_loss=1e-4, guard=Guard(window=16, sigmas=0.5))  # so narrow a guard refuses some steps
_SIZES: dict[str, Any] = {"vocab_size": 320, "n_layers": 3, "d_model": 16, "mlp_hidden": 24, "max_seq_len": T}
MODELS = {
    "olmo2": Model(family="olmo2", n_heads=2, n_kv_heads=2, init_std=0.1, **_SIZES),
    "granite": Model(family="granite", n_heads=4, n_kv_heads=2, mup_base_width=8, embedding_multiplier=4.0, **_SIZES),
    "stablelm": Model(family="stablelm", n_heads=2, n_kv_heads=2, rope_fraction=0.5, init_std=0.1, **_SIZES),
    "olmo": Model(family="olmo", n_heads=2, n_kv_heads=2, clip_qkv=0.5, tied_embeddings=True, init_std=0.1, **_SIZES),
    "granitemoe": Model(family="granitemoe", n_heads=2, n_kv_heads=2, n_experts=4, top_k=2, **_SIZES),
}


def corpus(folder: Path) -> Path:
    """A tokenizer and a shard of short documents."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["sun", "moon", "star", "12", "rose", "at"], int(rng.integers(4, 30)))) for _ in range(90)]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.train(texts, 320)
    tokenizer.save(folder)
    write_shards((Document(str(i), "a", t) for i, t in enumerate(texts)), "a", tokenizer, folder)
    return folder


@dataclass(frozen=True)
class Case:
    """One stretch: what is trained, how it is laid out, and how a batch is cut up."""

    name: str
    model: str
    parallel: dict[str, Any]
    precision: Precision = "fp32"
    document_mask: bool = False
    steps: int = 20
    optim: Optim = field(default_factory=lambda: OPTIM)
    compile: Compile = "off"

    def work(self, folder: Path, data: Path, parent: Path | None = None) -> PretrainSpec:
        """The stretch as its stage would begin it, in `folder`/name."""
        scratch = folder / self.name
        (scratch / "out").mkdir(parents=True, exist_ok=True)
        parallel, tracker = Parallel(**self.parallel), Local(NullTracker(), NullTracker())
        context = RankContext("t", scratch, scratch / "out", parallel, tracker, Local(_nothing, _nothing))
        mix = Mix(weights={"a": 1.0}, max_epochs=1000.0)
        constant = ConstantSchedule(kind="constant", warmup_tokens=4 * ROWS * T)
        phase = TrainingPhase(
            mix, self.steps * ROWS * T, ROWS, T, self.optim, constant, 1000, 5, None, self.document_mask, mask_repeats=True
        )
        seed = seeds.derive(3, "init")
        model, paths = MODELS[self.model], (data, data, data, parent)
        return PretrainSpec(context, phase, model, seed, 3, *paths, 0, self.precision, self.compile)


def _nothing() -> None:
    return None


def train_each(ranks: Ranks, works: list[PretrainSpec]) -> None:
    """One stretch after the other on the same ranks."""
    for work in works:
        train_on_rank(ranks, work)


def rows_of(log: Path) -> list[dict[str, float]]:
    """A stage's log, without what differs from run to run."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def curve(folder: Path) -> list[dict[str, float]]:
    return rows_of(folder / "curves.jsonl")


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "out" / "model.safetensors")


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Of two models' weights, relative, in the 2-norm over all of them. Single ones may differ by more: a key's bias hardly
    moves the loss, and AdamW makes steps of full size from the rounding errors that are its gradient."""
    assert a.keys() == b.keys()
    both = [torch.cat([model[name].flatten() for name in sorted(a)]) for model in (a, b)]
    return float((both[0] - both[1]).norm() / both[1].norm())


def agree(ours: Path, theirs: Path, *, loss: float, weight: float) -> None:
    """Two finished stretches: losses and gradient norms step by step, the steps that the guard refused, and the weights."""
    a, b = curve(ours), curve(theirs)
    assert [row["step"] for row in a] == [row["step"] for row in b]
    assert [row.get("skipped") for row in a] == [row.get("skipped") for row in b], ours.name
    assert [row.get("rolled_back_from") for row in a] == [row.get("rolled_back_from") for row in b], ours.name
    a, b = ([row for row in rows if "loss" in row] for rows in (a, b))
    for key, tolerance in (("loss", loss), ("cross_entropy", loss), ("grad_norm", 100 * loss)):
        np.testing.assert_allclose([r[key] for r in a], [r[key] for r in b], rtol=tolerance, err_msg=f"{ours.name}: {key}")
    assert distance(weights(ours), weights(theirs)) < weight, (ours.name, distance(weights(ours), weights(theirs)))
