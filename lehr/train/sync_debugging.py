"""Where the host waits for the device. On a GPU torch reports it; on a CPU this module counts the operators that would wait on
a GPU: reading a number or list from a tensor, and shapes that depend on values."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lehr.artifacts.artifact import LOGS, write_atomic
from lehr.distributed.ranks import Ranks
from lehr.runtime.ports import Tracker

if TYPE_CHECKING:
    from lehr.train.state import TrainState

DEBUG = "LEHR_DEBUG_SYNC"
_SHOWN = 12
Calls = Counter[tuple[str, str]]  # (file:line, operator)

_TORCH = str(Path(torch.__file__).parent)
_HERE = Path(__file__)
_ROOT = _HERE.parents[2]
# Tensors in these files are on the host whatever the model's device is.
_ON_HOST = ("lehr/optim/guard.py",)
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}


def _place() -> str:
    """file:line of the innermost frame that is neither in torch nor in this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename.startswith(_TORCH) or frame.f_code.co_filename == str(_HERE)):
        frame = frame.f_back
    return f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"


def _shown(file: str) -> str:
    path = Path(file)
    return path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else path.name


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, calls: Calls) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _WAITING or (name in ("index", "index_put", "index_put_") and _by_mask(args[1])):
            self.calls[_place(), name] += 1
        return func(*args, **(kwargs or {}))


def _by_mask(indices: Any) -> bool:
    return any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


class _Methods(TorchFunctionMode):
    """Counts `tolist`, which reads memory without dispatching an operator."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.tolist:
            self.calls[_place(), "tolist"] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def _cuda_warnings(calls: Calls) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
    for warning in said:
        if "synchroniz" in str(warning.message):
            calls[f"{_shown(warning.filename)}:{warning.lineno}", "cuda"] += 1


@contextmanager
def watched() -> Iterator[Calls]:
    """Count, by file and line, where the host waits inside. Each torch call costs some microseconds more."""
    calls: Calls = Counter()
    with ExitStack() as stack:
        if torch.cuda.is_available():
            stack.enter_context(_cuda_warnings(calls))
        else:
            stack.enter_context(_Methods(calls))
            stack.enter_context(_Operators(calls))
        yield calls
    for place, what in list(calls):
        if place.startswith(_ON_HOST):
            del calls[place, what]


def lines(calls: Calls, steps: int) -> list[str]:
    """One line for each place, the most frequent first."""
    return [f"{count / max(steps, 1):6.2f} a step  {what:20} {place}" for (place, what), count in calls.most_common()]


@contextmanager
def sync_report(stage: str, out: Path, state: TrainState, tracker: Tracker, ranks: Ranks) -> Iterator[None]:
    """With LEHR_DEBUG_SYNC=1 (`lehr run --debug-sync`): count on rank 0, write `logs/synchronisations.txt` and note the top."""
    if os.environ.get(DEBUG) != "1" or not ranks.first:
        yield
        return
    began = state.step
    with watched() as calls:
        yield
    found = lines(calls, state.step - began)
    (out / LOGS).mkdir(parents=True, exist_ok=True)
    write_atomic(out / LOGS / "synchronisations.txt", "\n".join(found) + "\n")
    for line in [f"{stage}: where the host waits for the device", *found[:_SHOWN]]:
        tracker.note(line)
