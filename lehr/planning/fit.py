"""What does not fit, said in words: memory, divisibility, ranks without work."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.config.hardware import Hardware
from lehr.config.model import Model
from lehr.planning.memory import Memory, memory_per_accelerator, with_checkpointing
from lehr.planning.work import Work

GIB = 2**30


def memory_problem(model: Model, hardware: Hardware, precision: str, work: Work, memory: Memory) -> list[str]:
    """One sentence if `work` needs more memory than an accelerator has, with what would help."""
    usable = hardware.memory_gib * hardware.usable
    if memory.total / GIB <= usable:
        return []
    text = f"does not fit: {work.name} needs {memory.total / GIB:.1f} GiB on each {hardware.accelerator}, which has "
    text += f"{hardware.memory_gib:g} GiB, {usable:.1f} of them usable"
    return [f"{text}; {_remedy(model, hardware, precision, work)}"]


def _remedy(model: Model, hardware: Hardware, precision: str, work: Work) -> str:
    usable = hardware.memory_gib * hardware.usable * GIB
    for changes, words in (
        ({"activation_checkpointing": True}, "activation checkpointing"),
        ({"micro_batch": 1}, "a micro-batch of 1"),
        ({"activation_checkpointing": True, "micro_batch": 1}, "activation checkpointing and a micro-batch of 1"),
    ):
        changed = hardware.model_copy(update=changes)
        if changed != hardware and _total(model, changed, precision, work) <= usable:
            return f"it would with {words}"
    least = _total(model, with_checkpointing(hardware.model_copy(update={"micro_batch": 1}), True), precision, work)
    return f"with activation checkpointing and a micro-batch of 1 it still needs {least / GIB:.1f}: shard it over more of them"


def _total(model: Model, hardware: Hardware, precision: str, work: Work) -> float:
    return memory_per_accelerator(model, hardware, precision, work.sequence_length, work.batch_size).total


def shape_problems(model: Model, hardware: Hardware) -> list[str]:
    """Degrees that the model cannot be cut into."""
    p, found = hardware.parallelism, []
    for name, size in (("n_heads", model.n_heads), ("n_kv_heads", model.n_kv_heads), ("mlp_hidden", model.mlp_hidden)):
        if size % p.tensor:
            found.append(f"does not fit: {name}={size} is no multiple of tensor={p.tensor}; lower parallelism.tensor")
    if p.pipeline > model.n_layers:
        found.append(f"does not fit: {model.n_layers} layers over pipeline={p.pipeline} ranks; lower parallelism.pipeline")
    return found


def batch_notes(works: Sequence[Work], hardware: Hardware) -> list[str]:
    """Steps in which some rank would wait."""
    at_once = hardware.data_ranks * hardware.micro_batch
    ranks = f"{hardware.data_ranks:,} data ranks with micro-batches of {hardware.micro_batch}"
    notes: dict[int, str] = {}
    for work in works:
        for _, size in work.pieces:
            if size > at_once and size % at_once:
                idle = 100 * (1 - size / (-(-size // at_once) * at_once))
                notes.setdefault(size, f"{work.name}: {size:,} sequences over {ranks} leave {idle:.0f} % of each step idle")
    small = dict.fromkeys(work.name for work in works if work.pieces[0][1] < at_once)
    if small:
        notes[0] = f"{', '.join(small)}: batches begin too small for {ranks}; the hours assume that all of them work"
    return list(notes.values())
