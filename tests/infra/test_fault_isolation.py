"""Isolation of bad nodes and links against a hidden truth."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.infra.fleet.fault_isolation import Isolation, PairResult, isolate_fault


def search(suspects: list[str], good: list[str], bad: set[str], links: set[frozenset[str]]) -> tuple[Isolation, int]:
    results: list[PairResult] = []
    for rounds in range(40):
        found = isolate_fault(suspects, good, results)
        if not found.next_pairs:
            return found, rounds
        used = [name for pair in found.next_pairs for name in pair]
        assert len(used) == len(set(used)), "pairs of one round must be disjoint"
        results += [PairResult(a, b, not ({a, b} & bad) and frozenset((a, b)) not in links) for a, b in found.next_pairs]
    raise AssertionError("does not end")


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)), st.booleans())),
    st.integers(3, 6),
)
def test_bad_nodes_are_found_and_nobody_else_is_accused(case: tuple[int, set[int], bool], spare: int) -> None:
    count, broken, with_link = case
    suspects = [f"s{i}" for i in range(count)]
    bad = {f"s{i}" for i in broken}
    well = [s for s in suspects if s not in bad]
    links = {frozenset(well[:2])} if with_link and len(well) >= 2 else set()
    found, _ = search(suspects, [f"g{i}" for i in range(spare)], bad, links)
    assert found.bad_nodes == bad
    assert not found.undecided
    assert {frozenset(pair) for pair in found.bad_links} <= links
    assert bad or {frozenset(pair) for pair in found.bad_links} == links, "a hang with no other cause: the link is found"


def test_bad_link_between_two_good_nodes_is_named() -> None:
    found, rounds = search(["a", "b"], ["x", "y"], set(), {frozenset("ab")})
    assert found.bad_links == {("a", "b")}
    assert not found.bad_nodes
    assert rounds <= 3


def test_without_a_good_partner_nobody_is_accused() -> None:
    found, _ = search(["a", "b"], [], {"a"}, set())
    assert not found.bad_nodes
    assert found.undecided == {"a", "b"}
