"""Memory of one accelerator during training, in bytes. Counts what PyTorch allocates at the peak, which lies in the backward
pass of the logits or, under FSDP2 with small batches, in the optimiser's update.

Per token: D model width, Q and K widths of all query and key heads, F gated MLP width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from lehr.config.hardware import Hardware
from lehr.config.model import Model
from lehr.model.size import block_parameters, parameter_count

FP32 = 4
LOGITS_AT_ONCE, SWIGLU_ROWS = 2**19, 128  # in fp32 on a CPU (lehr.train.losses, lehr.model.fused)


@dataclass(frozen=True)
class Memory:
    """The parts of the peak on the fullest accelerator. `gathered` is what FSDP assembles for the blocks at work, `update`
    the optimiser's scratch space, alive when activations and logits are not; the fused update of flat buffers has none."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    logits: float
    update: float

    @property
    def total(self) -> float:
        state = self.weights + self.gradients + self.optimizer
        return state + max(self.gathered + self.activations + self.logits, self.update)

    def parts(self) -> dict[str, float]:
        """By name, without `total`."""
        return asdict(self)


def memory_per_accelerator(model: Model, hardware: Hardware, precision: str, sequence_length: int, batch_size: int) -> Memory:
    """The fullest pipeline rank's memory; `precision` is fp32 or bf16 (with fp32 masters)."""
    ranks = range(hardware.parallelism.pipeline)
    every = [_of_rank(model, hardware, precision, sequence_length, batch_size, rank) for rank in ranks]
    return max(every, key=lambda m: m.total)


def with_checkpointing(hardware: Hardware, on: bool) -> Hardware:
    return hardware.model_copy(update={"activation_checkpointing": on})


def _of_rank(model: Model, hardware: Hardware, precision: str, length: int, batch_size: int, rank: int) -> Memory:
    p, work = hardware.parallelism, 2 if precision == "bf16" else FP32
    layers = layers_of(model, p.pipeline)[rank]
    first, last = rank == 0, rank == p.pipeline - 1
    block = block_parameters(model) / p.tensor
    outside = _outside(model, first, last) / p.tensor
    state = _state(layers * block + outside, block, outside, hardware, work)
    # 1F1B keeps as many micro-batches in flight as ranks follow (Granite 3.0 section 4.3), if a step has that many.
    micro_batches = max(1, batch_size // (hardware.data_ranks * hardware.micro_batch))
    in_flight = min(p.pipeline - rank, micro_batches)
    tokens = hardware.micro_batch * length
    layer = layer_bytes(model, hardware, work, length)
    if hardware.activation_checkpointing:
        activations = tokens * (in_flight * layers * model.d_model * work + layer)
    else:
        activations = tokens * in_flight * layers * layer
    if last:
        activations += tokens * _norm_bytes(model, work)
    logits = _logit_bytes(model, hardware, work, tokens) / p.tensor if last else 0.0
    return replace(state, activations=activations, logits=logits)


def layers_of(model: Model, pipeline: int) -> list[int]:
    """Layers of each pipeline rank, the first ones taking what is left over."""
    share, rest = divmod(model.n_layers, pipeline)
    return [share + (1 if rank < rest else 0) for rank in range(pipeline)]


def _outside(model: Model, first: bool, last: bool) -> int:
    """Parameters outside the blocks that a pipeline rank holds; a tied table stands on the first and on the last."""
    table = model.vocab_size * model.d_model
    norm = parameter_count(model) - model.n_layers * block_parameters(model) - (1 if model.tied_embeddings else 2) * table
    if first and last:
        return table * (1 if model.tied_embeddings else 2) + norm
    return (table if first else 0) + (table + norm if last else 0)


def _state(held: float, block: float, outside: float, hardware: Hardware, work: int) -> Memory:
    """Weights, gradients and optimiser state of `held` parameters: AdamW with fp32 masters and moments, and in bf16 working
    weights beside the masters. ddp is Lehr's own layout (`lehr.optim.adamw.FlatParameters`)."""
    kind, shards = hardware.parallelism.data, hardware.shards
    copy = work if work != FP32 else 0  # bf16 working weights; each working gradient is freed once it is added to the fp32 ones
    if kind == "ddp" or (shards == 1 and kind != "zero1"):
        return Memory((FP32 + copy) * held, FP32 * held, 2 * FP32 * held, 0.0, 0.0, 0.0, 0.0)
    mine = held / shards
    if kind == "zero1":  # gradients in fp32 and whole, masters with the optimiser's shard (Stable LM 2 sections 2.1 and 2.4)
        masters = FP32 * mine if copy else 0.0
        return Memory(work * held, FP32 * held, 2 * FP32 * mine + masters, 0.0, 0.0, 0.0, 0.0)
    # FSDP2: the root (tables, final norm) stays assembled, of the blocks the one at work and the next; gradients of one.
    gathered = work * (2 * block + outside) + work * (block + outside)
    return Memory(FP32 * mine, FP32 * mine, 2 * FP32 * mine, gathered, 0.0, 0.0, FP32 * mine)


def layer_bytes(model: Model, hardware: Hardware, work: int, length: int) -> float:
    """Bytes that one block keeps for the backward pass, per token. Tensor parallelism cuts what lies inside attention and
    MLP; the residual stream and its norms are whole on every rank."""
    inside = _fused_inside(model, work) if hardware.fused else _eager_inside(model, work, length)
    return _stream_bytes(model, work, hardware.fused) + inside / hardware.parallelism.tensor


def _stream_bytes(m: Model, work: int, fused: bool) -> float:
    """Norms' and residuals' share. LayerNorms keep an fp32 input and what they give; RMSNorms (`lehr.model.fused`) their input
    as it is, and a number. Fused ones keep what cannot be computed again from the residual."""
    if fused:
        return work * m.d_model * (4 if m.norm_placement == "output" else 2)
    return 2 * _norm_bytes(m, work)


def _norm_bytes(m: Model, work: int) -> float:
    """Of one eager norm, with its output."""
    return m.d_model * 2 * work + FP32 if m.norm == "rmsnorm" else m.d_model * (FP32 + work)


def _widths(m: Model) -> tuple[int, int]:
    return m.n_heads * m.head_dim, m.n_kv_heads * m.head_dim


def _fused_inside(m: Model, work: int) -> float:
    """Flash attention keeps queries, keys, values, output and one fp32 sum a head; the MLP its two projections."""
    q, k = _widths(m)
    attention = work * (q + 2 * k + q) + FP32 * m.n_heads + (work * (q + k) if m.qk_norm or m.clip_qkv else 0)
    return attention + work * (m.top_k * (2 * m.mlp_hidden + m.d_model) if m.n_experts else 2 * m.mlp_hidden)


def _eager_inside(m: Model, work: int, length: int) -> float:
    """Lehr's transformer on CPU without a compiler: fp32 through PyTorch's fused attention, bf16 through dense products."""
    q, k = _widths(m)
    if work == FP32:
        attention: float = work * ((q + 2 * k) + (q + k) + q) + FP32 * m.n_heads
    else:  # keys and values repeated for every query head, and the causal part of the weights, in blocks of 128 queries
        attention = work * (4 * q + m.n_heads * min(length, length / 2 + 64))
    if m.qk_norm:  # the projections themselves; in fp32 the values are a view of them
        attention += 2 * FP32 + (work * (q + 2 * k) if work != FP32 else 0)
    if m.clip_qkv:
        attention += work * (q + 2 * k)
    experts = m.top_k * (4 * m.mlp_hidden + 3 * m.d_model)
    return attention + work * (experts if m.n_experts else 3 * m.mlp_hidden)


def _logit_bytes(model: Model, hardware: Hardware, work: int, tokens: int) -> float:
    """Bytes of the logits at the peak of the backward pass. Fused: fp32 logits, their gradient in the working precision, and
    its operand. Eager: they become their gradient in place, a block of rows at a time in fp32 (`lehr.train.losses`), then the
    head's own gradient is made beside them; or, beside a small vocabulary, what the last MLP's backward pass needs."""
    logits = tokens * model.vocab_size
    if hardware.fused:
        return logits * (FP32 + 2 * work)
    blocks = FP32 * min(logits, 2 * LOGITS_AT_ONCE) if work != FP32 else 0  # the next is made before the last is freed
    head = logits * work + max(model.vocab_size * model.d_model * work, blocks)
    return head if model.n_experts else max(head, _mlp_backward_bytes(model, work, tokens))


def _mlp_backward_bytes(m: Model, work: int, tokens: int) -> float:
    """Gradients of gate and up, of the stream and of the matrix; fp32 vectors of the rows at work (`lehr.model.fused`)."""
    wide = (6 if work != FP32 else 3) * FP32 * m.mlp_hidden * min(tokens, SWIGLU_ROWS)
    return work * (tokens * (2 * m.mlp_hidden + m.d_model) + 2 * m.mlp_hidden * m.d_model) + wide
