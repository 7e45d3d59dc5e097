"""The index of documents by id: what a search through all ids would find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.data.tokens import ids
from lehr.data.tokens.ids import IdIndex, family, write_ids
from lehr.runtime.errors import UserError

_NAMES = st.sampled_from(
    [b"a", b"a#0", b"a#1", b"a#1#2", b"a#", b"#3", b"b#x", b"", b"\xc3\xa9", b"http://x/#12"]
) | st.integers(0, 400).map(lambda n: b"d%d" % n)


def _slice(names: list[bytes]) -> Callable[[int, int], list[bytes]]:
    return lambda first, end: names[first:end]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(_NAMES, min_size=1, max_size=60), min_size=1, max_size=6))
def test_it_finds_what_a_search_finds(tmp_path_factory: pytest.TempPathFactory, shards: list[list[bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_BUCKET", 4)
        patch.setattr(ids, "_AT_ONCE", 16)
        patch.setattr(ids, "_READ", 7)
        folder = tmp_path_factory.mktemp("ids")
        write_ids(folder / "s.ids", [(len(names), _slice(names)) for names in shards], folder / "scratch")
    every = [name for names in shards for name in names]
    index = IdIndex(folder / "s.ids", len(every))
    for name in {*every, *map(family, every), b"nobody"}:
        assert index.numbers(name) == [number for number, other in enumerate(every) if family(other) == name]
    assert sorted(path.name for path in folder.iterdir()) == ["s.ids", "scratch"] and not list((folder / "scratch").iterdir())


def test_damage_is_said(tmp_path: Path) -> None:
    names = [b"d%d" % number for number in range(3000)]
    write_ids(tmp_path / "s.ids", [(3000, _slice(names))], tmp_path)
    raw = (tmp_path / "s.ids").read_bytes()
    bits = int.from_bytes(raw[16:24], "little")
    assert bits == 3
    table = b"".join((1 << 60).to_bytes(8, "little") for _ in range((1 << bits) + 1))
    for damaged in (
        raw[:-1],
        b"",
        raw[:8] + (2999).to_bytes(8, "little") + raw[16:],
        raw[:16] + (63).to_bytes(8, "little") + raw[24:],
    ):
        (tmp_path / "s.ids").write_bytes(damaged)
        with pytest.raises(UserError, match="damaged index"):
            IdIndex(tmp_path / "s.ids", 3000)
    for damaged in (raw[:24] + table + raw[24 + len(table) :], raw[: -8 * 3000] + b"\xff" * 8 * 3000):
        (tmp_path / "s.ids").write_bytes(damaged)
        with pytest.raises(UserError, match="damaged index"):
            IdIndex(tmp_path / "s.ids", 3000).numbers(b"d7")
    (tmp_path / "s.ids").unlink()
    with pytest.raises(UserError, match="no index"):
        IdIndex(tmp_path / "s.ids", 3000)
