"""Training steps: forward, backward, clip, AdamW, on the same batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import models
from benchmarks.common import Record, compared, in_turns, main
from benchmarks.memory import peak_bytes
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.optim.adamw import AdamW, FlatParameters, clip_
from lehr.train.compilation import compile_blocks
from lehr.train.losses import cross_entropy, router_loss

LENGTH = 256
BATCH = {"4M": 8, "15M": 4}
TARGETS = {"4M": 1.1, "15M": 1.2}  # times the best peer
NANO_GPT = "nanoGPT's architecture, rewritten"
Step = Callable[[], object]


def lehr_step(model: Transformer, rows: int, *, compiled: bool, dtype: torch.dtype = torch.bfloat16) -> Step:
    """A step of ours: bf16 working weights, fp32 masters, z-loss."""
    optim = Optim(lr=1e-3)
    flat = FlatParameters(model, optim, dtype)
    optimizer = AdamW(flat, optim)
    if compiled:
        compile_blocks(model)
    tokens_BT, labels_BT = batch(model.config, rows)

    def step() -> None:
        flat.zero()
        ce = cross_entropy(model, tokens_BT, labels_BT, with_z=True)
        (ce.nats + 1e-5 * ce.z + router_loss(ce, model.config)).backward()  # type: ignore[no-untyped-call]
        flat.collect()
        clip_(flat.grads, 1.0, ce.tokens)
        optimizer.update(1e-3)

    return step


def peer_step(model: nn.Module, config: Model, rows: int, *, compiled: bool, logits: Callable[..., torch.Tensor]) -> Step:
    """A plain loop as the peers' own: bf16 autocast, cross entropy, clip_grad_norm_, fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens_BT, labels_BT = batch(config, rows)
    called = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = logits(called, tokens_BT)
            loss = F.cross_entropy(out.float().flatten(0, 1), labels_BT.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def batch(config: Model, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, config.vocab_size, (rows, LENGTH + 1), generator=generator)
    return x[:, :-1].contiguous(), x[:, 1:].contiguous()


def contestants(size: str, compiled: bool, rows: int = 0, only: str = "") -> dict[str, Step]:
    """Lehr and whichever peers are installed, or `only` one of them."""
    rows, config = rows or BATCH[size], models.config(size, LENGTH)
    out: dict[str, Step] = {}
    if only in ("", "Lehr"):
        out["Lehr"] = lehr_step(models.ours(size, LENGTH), rows, compiled=compiled)
    if only in ("", "Hugging Face Olmo2"):
        hf = models.hugging_face(models.ours(size, LENGTH))
        out["Hugging Face Olmo2"] = peer_step(
            hf, config, rows, compiled=compiled, logits=lambda m, x: m(x, use_cache=False).logits
        )
    builders: dict[str, Callable[[str], nn.Module | None]] = {
        "OLMo-core": models.olmo_core, "litgpt": models.litgpt, NANO_GPT: models.nano_gpt
    }  # fmt: skip
    for name, build in builders.items():
        if only not in ("", name):
            continue
        peer = build(size)
        if peer is None:
            print(f"{name} is not installed: make peers", file=sys.stderr)
        else:
            out[name] = peer_step(peer, config, rows, compiled=compiled, logits=lambda m, x: m(x))
    return out


def gemm_peak() -> float:
    """Measured bf16 GFLOP/s of model-shaped products on one thread."""
    a, b = torch.randn(2048, 384).bfloat16(), torch.randn(384, 1024).bfloat16()
    times = []
    for _ in range(30):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * 2048 * 384 * 1024 / sorted(times)[15] / 1e9


def run() -> Sequence[Record]:
    """Tokens per second of training against the best peer, eager against eager and compiled against compiled, at 4M and
    15M parameters; a mixture of experts against its dense twin of equal active parameters."""
    records = []
    peak = gemm_peak()
    for size in ("4M", "15M"):
        for compiled in (False, True):
            found = in_turns(contestants(size, compiled), turns=7 if size == "15M" else 9, warm=3)
            tokens = BATCH[size] * LENGTH
            mine = tokens / found.pop("Lehr")
            share = mine * flops_per_token(models.config(size), LENGTH) / 1e9 / peak
            for name, seconds in sorted(found.items(), key=lambda item: item[1]):
                note = (
                    f"{share:.0%} of the bf16 product peak ({peak:.0f} GFLOP/s)"
                    if name == min(found, key=found.__getitem__)
                    else ""
                )
                case = f"{size}, {'compiled' if compiled else 'eager'}"
                theirs, target = tokens / seconds, TARGETS[size]
                records.append(compared("train", case, mine, theirs, name, "tokens/s", note=note, target=target))
    return [*records, *memory(), moe_against_dense()]


def memory() -> Sequence[Record]:
    """Bytes at the peak of an eager step, each contestant alone: at small batches (state) and at large ones (activations)."""
    records = []
    for rows in (4, 32):
        found = {}
        for name in ("Lehr", "Hugging Face Olmo2", "OLMo-core", "litgpt", NANO_GPT):
            step = contestants("15M", False, rows, only=name).get(name)
            if step is not None:
                found[name] = peak_bytes(step) / 2**20
            del step
        mine = found.pop("Lehr")
        for name, theirs in sorted(found.items(), key=lambda item: item[1]):
            case = f"15M, eager, {rows} x {LENGTH} tokens, peak memory"
            records.append(compared("train", case, mine, theirs, name, "MiB", less_is_better=True))
    return records


def moe_against_dense() -> Record:
    """Top-2 of 8 experts against a dense MLP of the same active width: seconds a step."""
    dense = models.config("4M", LENGTH)
    sparse = dense.model_copy(update={"family": "granitemoe", "n_experts": 8, "top_k": 2, "mlp_hidden": dense.mlp_hidden // 2})
    steps = {
        "moe": lehr_step(Transformer(sparse).initialise(0), 8, compiled=False),
        "dense": lehr_step(Transformer(dense).initialise(0), 8, compiled=False),
    }
    found = in_turns(steps, turns=9)
    note, mine, plain = "equal active parameters; 1.6 times as slow is allowed", found["moe"], found["dense"]
    case, unit = "mixture of experts", "s a step"
    return compared("train", case, mine, plain, "dense twin", unit, less_is_better=True, note=note, target=0.625)


if __name__ == "__main__":
    sys.exit(main("train", run))
