"""Log-probabilities of given continuations: what requests begin with in common is encoded once, and no bit of an answer depends
on the requests beside it.

The requests of a list are walked through as a tree of units (`lehr.model.score_plan`), depth first: the keys and values of the
path to where the walk stands are all that is kept, however many requests hang on it. Every unit is one call of one row, whose
products have the same shapes whatever else is scored: a matrix product's last bits can change with its number of rows, and with
the number of threads that divide it. So every thread walks through a share of the requests by itself, its products undivided.

Shapes: T tokens of a unit, D model width, V vocabulary.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor

from lehr.model.layers import KVCache
from lehr.model.score_plan import Path, Unit, common, shares
from lehr.model.transformer import Transformer
from lehr.runtime.errors import diverged

Scored = tuple[float, int, bool]
Watch = Callable[[int, int], None]  # requests done, requests
_CPU_WIDTH, _DEVICE_WIDTH = 128, 512  # tokens of a unit: the numbers' last bits depend on it, so it is no setting
_ROUND = 128  # a cache's columns, so that every head's keys begin at a whole line of memory
_CACHE_BYTES = 8 << 30  # of all threads together, beside twice the weights' memory


def unit_width(device: torch.device) -> int:
    """Tokens of a unit. On a CPU half as many are a third slower for each token, and twice as many hardly faster."""
    return _CPU_WIDTH if device.type == "cpu" else _DEVICE_WIDTH


def scored_paths(model: Transformer, paths: Sequence[Path], watch: Watch | None = None) -> list[Scored]:
    """Of each request the sum of the continuation's log-probabilities in nats, its tokens, and whether each of them has the
    largest logit. A request without units is (0.0, 0, True). `watch` is told after each request, in whatever thread, how many
    of how many are done. Raises UserError if probabilities are not finite."""
    found: list[Scored] = [(0.0, 0, True)] * len(paths)
    columns = -(-max((path.size for path in paths), default=0) // _ROUND) * _ROUND
    if not columns:
        return found
    stop, threads = threading.Event(), torch.get_num_threads()

    def walk(part: Sequence[int]) -> None:
        if on_cpu:
            torch.set_num_threads(1)  # of this thread: several would divide a product, and may add it up in another order
        one = _Walk(model, columns)
        for i in part:
            if stop.is_set():
                return
            found[i] = one.scored(paths[i])
            if watch is not None:
                with lock:
                    done.append(i)
                    watch(len(done), total)

    lock, done = threading.Lock(), list[int]()
    on_cpu = model.cos.device.type == "cpu"
    divided = [part for part in shares(paths, _walks(model, columns, threads)) if part]
    total = sum(map(len, divided))
    try:
        if len(divided) == 1:
            walk(divided[0])
        else:
            _in_threads(walk, divided, stop)
    finally:
        torch.set_num_threads(threads)
    return found


def _in_threads(walk: Callable[[Sequence[int]], None], divided: Sequence[Sequence[int]], stop: threading.Event) -> None:
    """Every share in a thread of its own. Whatever ends the waiting, a signal's exception too, ends the threads."""
    with ThreadPoolExecutor(len(divided)) as pool:
        try:
            running = [pool.submit(walk, part) for part in divided]
            wait(running, return_when="FIRST_EXCEPTION")
        finally:
            stop.set()
    for one in running:
        one.result()


def _walks(model: Transformer, columns: int, threads: int) -> int:
    """How many threads walk: as many as the caller may use, and as memory has room for their keys and values."""
    if model.cos.device.type != "cpu":
        return 1
    c = model.config
    cache = 2 * 4 * c.n_layers * c.n_kv_heads * c.head_dim * columns
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return max(1, min(threads, (_CACHE_BYTES + 2 * weights) // cache))


class _Walk:
    """One thread's way through its requests: the cache holds the keys and values of `held`, the units of the path so far."""

    def __init__(self, model: Transformer, columns: int) -> None:
        self.model = model
        weight = model.embed.weight
        start_1 = torch.zeros(1, dtype=torch.int64, device=weight.device)
        self.cache = KVCache(model.config, 1, columns, start_1, weight.dtype)
        self.held: list[_Held] = []

    @torch.no_grad()  # each thread has its own mode
    def scored(self, path: Path) -> Scored:
        kept = common([one.unit for one in self.held], path.units)
        del self.held[kept:]
        self.cache.used = self.held[-1].end if self.held else 0
        self.held += (self._computed(unit) for unit in path.units[kept:])
        logprobs: list[float] = []
        greedy, at = True, 0
        for one in self.held[path.contexts - 1 :]:
            values, largest = one.inner
            logprobs += values
            at += len(values)
            value, best = one.following(path.answer[at])  # the first token of what comes next
            logprobs.append(value)
            greedy, at = greedy and largest and best, at + 1
        total = math.fsum(logprobs)
        if math.isnan(total):
            raise diverged("the model's probabilities are not finite")
        return total, len(logprobs), greedy

    def _computed(self, unit: Unit) -> _Held:
        tokens_1T = torch.tensor([unit.ids], device=self.cache.start_B.device)
        state_TD = self.model.hidden(tokens_1T, self.cache)[0] if unit.answer else self.model.newest(tokens_1T, self.cache)
        return _Held(unit, self.cache.used, self.model, state_TD)


class _Held:
    """A unit whose keys and values are in the cache, up to column `end`. Its logits are computed when a request asks: all of an
    answer's unit, and of a context's unit those after its last token, `state_TD` being that of the last alone."""

    def __init__(self, unit: Unit, end: int, model: Transformer, state_TD: Tensor) -> None:
        self.unit, self.end, self._model, self._state_TD = unit, end, model, state_TD
        self._inner: tuple[list[float], bool] = ([], True)
        self._after_V: Tensor | None = None  # log-probabilities of what follows the last token
        self._largest = -1

    @property
    def inner(self) -> tuple[list[float], bool]:
        """The log-probabilities of the unit's tokens but the first, and whether each is the likeliest; of an answer's unit."""
        self._look()
        return self._inner

    def following(self, token: int) -> tuple[float, bool]:
        """The log-probability of `token` after the unit, and whether it is the likeliest."""
        self._look()
        assert self._after_V is not None
        return float(self._after_V[token]), token == self._largest

    def _look(self) -> None:
        if self._after_V is not None:
            return
        logits_TV = self._model.logits(self._state_TD).float()
        logp_TV, largest_T = torch.log_softmax(logits_TV, dim=-1), logits_TV.argmax(dim=-1)
        if self.unit.answer:
            next_T = torch.tensor(self.unit.ids[1:], device=logits_TV.device, dtype=torch.int64)
            picked_T = logp_TV[:-1].gather(1, next_T[:, None])[:, 0]
            self._inner = picked_T.tolist(), bool((largest_T[:-1] == next_T).all())
        self._after_V, self._largest = logp_TV[-1].clone(), int(largest_T[-1])
