"""Bytes of tensors at the peak of a step, as torch's own profiler counts allocations: one measure for every contestant."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(step: Callable[[], object]) -> int:
    """What lives before a step that has been run before, and the most that the step holds on top of it."""
    step()
    gc.collect()
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if _is_tensor(t)}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    waiting = list(seen.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    changes: list[tuple[int, int]] = []
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.name == "[memory]":
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    total, most = 0, 0
    for _, size in sorted(changes):
        total += size
        most = max(most, total)
    return sum(held.values()) + most


def _is_tensor(thing: object) -> bool:
    return type(thing) in (torch.Tensor, torch.nn.Parameter)
