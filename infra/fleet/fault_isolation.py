"""Which node or link is bad among suspects, from tests of pairs. Pure functions; two passes, as in Google's health runner.

First the suspects are paired with each other. A failed pair accuses both members, so each is tested again with partners that
have passed a test (or are known good). Only that second pass decides: a node that fails with two good partners is bad; if both
pass with good partners, and the pair fails again when repeated, the link between them is bad. If no pair failed, a third pass
tests the pairs of suspects that were never tested: one of those links may be the bad one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class PairResult:
    """One test of two nodes. The order of `a` and `b` has no meaning."""

    a: str
    b: str
    passed: bool


@dataclass(frozen=True)
class Isolation:
    """`next_pairs` are disjoint, so they can run at once. If empty, the search has ended, and the `undecided` need a person."""

    bad_nodes: frozenset[str]
    bad_links: frozenset[tuple[str, str]]
    good: frozenset[str]
    undecided: frozenset[str]
    next_pairs: tuple[tuple[str, str], ...]


def isolate_fault(
    suspects: Iterable[str], known_good: Iterable[str], results: Iterable[PairResult], free: Iterable[str] | None = None
) -> Isolation:
    """Conclusions from all `results` so far, and the pairs to test next among the nodes that are `free` (None: all)."""
    names = sorted(set(suspects))
    tests = list(results)
    failed = _counts(t for t in tests if not t.passed)
    good = set(known_good) - set(names)
    passed_with = {name: {_other(t, name) for t in tests if t.passed and name in (t.a, t.b)} for name in names}
    # A node that passes once, with any partner, is good: a bad node or port fails every pair it is in.
    good |= {name for name in names if passed_with[name]}
    against = {name: {_other(t, name) for t in tests if not t.passed and name in (t.a, t.b)} for name in names}
    # One failure with a good partner may be due to the link; two are due to the node.
    bad = {name for name in names if name not in good and len(against[name] & good) >= 2}
    accused = {pair for pair in failed if pair[0] in good and pair[1] in good}
    links = {pair for pair in accused if failed[pair] >= 2}
    undecided = [name for name in names if name not in good and name not in bad]
    tested = {_key(t.a, t.b) for t in tests}
    busy = set() if free is None else {*names, *good} - set(free)
    # A failure already found explains the hang: no need to test the remaining pairs.
    rest = [] if failed or undecided else [p for p in combinations(names, 2) if p not in tested]
    pairs = _next_pairs(undecided, sorted(good), tested, [*sorted(accused - links), *rest], busy)
    return Isolation(frozenset(bad), frozenset(links), frozenset(good), frozenset(undecided), pairs)


def _next_pairs(
    undecided: list[str], good: list[str], tested: set[tuple[str, str]], repeat: list[tuple[str, str]], busy: set[str]
) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []

    def take(a: str, b: str) -> None:
        pairs.append(_key(a, b))
        busy.update((a, b))

    untested = [name for name in undecided if not any(name in pair for pair in tested)]
    for name in undecided:
        if name in busy:
            continue
        # First pass: with another untested suspect. Second pass: with a node that has passed.
        partners = [n for n in untested if name in untested and n != name] or good
        if not good and name not in untested:
            partners = undecided
        free = next((p for p in partners if p not in busy and p != name and _key(name, p) not in tested), None)
        if free is not None:
            take(name, free)
    for a, b in repeat:
        if a not in busy and b not in busy:
            take(a, b)
    return tuple(pairs)


def _counts(tests: Iterable[PairResult]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for test in tests:
        pair = _key(test.a, test.b)
        found[pair] = found.get(pair, 0) + 1
    return found


def _key(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def _other(test: PairResult, name: str) -> str:
    return test.b if name == test.a else test.a
