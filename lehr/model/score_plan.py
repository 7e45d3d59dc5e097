"""In which units of computing a request is scored, and in which order: what many requests begin with is computed once.

A request's units are a function of the request alone. Neither the requests beside it, nor their order or number, nor the number
of ranks and threads changes the shape of any product that its score comes from, so none of them changes a bit of it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

Pair = tuple[Sequence[int], Sequence[int]]  # ids of the context and of the continuation
_SLACK = 0.1  # of a share: how far a cut may move to a place where little is shared


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """Consecutive tokens that go through the model in one call, as bytes (which compare faster than lists). `answer`: the
    logits of all its tokens are wanted, and not of its last one alone."""

    tokens: bytes
    answer: bool

    @property
    def ids(self) -> list[int]:
        return _ids(self.tokens)

    @property
    def size(self) -> int:
        return len(self.tokens) // _BYTES


@dataclass(frozen=True, slots=True)
class Path:
    """A request: the units of its context, then those of its continuation without the last token, and the continuation."""

    units: tuple[Unit, ...]
    contexts: int  # how many of the units are of the context
    answer: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(unit.size for unit in self.units)


_BYTES = array("I").itemsize


def path_of(pair: Pair, eos: int, longest: int, width: int) -> Path:
    """A request in units of at most `width` tokens. Context and continuation keep their last `longest` + 1 tokens, so that the
    model sees at most `longest`; an empty context is the end-of-text token. The context's last unit ends where the context
    does: continuations of one context share all of it. Without a token to score there are no units."""
    context, continuation = pair
    ids = [*(context or [eos]), *continuation][-(longest + 1) :]
    scored = min(len(continuation), len(ids) - 1)
    if not scored:
        return Path((), 0, ())
    at = len(ids) - scored
    before, after = _cut(ids[:at], width, False), _cut(ids[at:-1], width, True)
    return Path((*before, *after), len(before), tuple(ids[at:]))


def in_order(paths: Sequence[Path]) -> list[int]:
    """The numbers of the requests that have something to compute, those that begin alike one after the other."""
    return sorted((i for i, path in enumerate(paths) if path.units), key=lambda i: paths[i].units)


def common(units: Sequence[Unit], others: Sequence[Unit]) -> int:
    """How many units two paths begin with in common."""
    return next((n for n, (a, b) in enumerate(zip(units, others, strict=False)) if a != b), min(len(units), len(others)))


def shares(paths: Sequence[Path], parts: int) -> list[list[int]]:
    """The requests of `in_order` in `parts` runs of about equal cost, some perhaps empty. A run ends where the next request has
    little in common with the one before: at the end of a question sooner than among its answers."""
    order = in_order(paths)
    alike = [0, *(_shared_tokens(paths[a], paths[b]) for a, b in pairwise(order))]
    # The cost of a request is what it adds to the one before, and one for looking its logits up.
    ends = list(accumulate(paths[i].size - same + 1 for i, same in zip(order, alike, strict=False)))
    total, cuts = (ends[-1] if ends else 0), [0]
    for part in range(1, parts):
        target, slack = total * part / parts, _SLACK * total / parts
        nearest = bisect_left(ends, target)
        near = range(max(cuts[-1], bisect_left(ends, target - slack)), min(len(order), bisect_left(ends, target + slack) + 1))
        cuts.append(min(near, key=lambda i: (alike[i], abs(i - nearest)), default=max(cuts[-1], min(nearest, len(order)))))
    return [order[a:b] for a, b in zip(cuts, [*cuts[1:], len(order)], strict=True)]


def _shared_tokens(a: Path, b: Path) -> int:
    return sum(unit.size for unit in a.units[: common(a.units, b.units)])


def _cut(ids: Sequence[int], width: int, answer: bool) -> list[Unit]:
    return [Unit(array("I", ids[s : s + width]).tobytes(), answer) for s in range(0, len(ids), width)]


def _ids(tokens: bytes) -> list[int]:
    found = array("I")
    found.frombytes(tokens)
    return found.tolist()
