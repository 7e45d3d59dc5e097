"""Names that people choose, or that stand in files we read, become paths in one way, which never leaves the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.object_store.cache import Cache
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.runtime.errors import UserError
from lehr.runtime.paths import below, is_address, joined

BAD = ["../../x", "..", ".", "", "a/b", "/etc/x", "a\\b", "a\0b", "x" * 260]
USES: list[Callable[[Path, str], Any]] = [
    joined,
    lambda folder, name: below(joined(folder, name), "w"),
    lambda folder, name: Cache(folder).artifact(name, "digest"),
    lambda folder, name: Cache(folder).scratch(name, 1),
    lambda folder, name: Cache(folder).adopt(name, folder),
    lambda folder, name: Cache(folder).fetch(name, "digest", "s3://b/r", lambda beside: None),
    lambda folder, name: LocalStore(folder).find(name),
    lambda folder, name: LocalStore(folder).scratch(name),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", BAD)
def test_no_name_leads_out_of_its_folder(name: str, use: Callable[[Path, str], Any], tmp_path: Path) -> None:
    (tmp_path / "in/here").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is not a valid file name|leads out"):
        use(tmp_path / "in/here", name)
    assert not [p for p in tmp_path.rglob("*") if p not in (tmp_path / "in", tmp_path / "in/here")]


def test_shards_are_written_under_names_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a valid file name"):
        write_shards([], "../../escaped", Tokenizer.train(["some text " * 50], 300), tmp_path / "a/b")
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("s3://b/run/artifacts/soup-1", True),
        ("s3://b/artifacts/run/artifacts/soup-1", True),
        ("/runs/../runs/a/artifacts/soup-1", True),  # a folder of this machine, as its user wrote it
        ("s3://b/run/artifacts/../../..", False),
        ("s3://b/run/artifacts/", False),
        ("s3://b/../x/artifacts/soup-1", False),
    ],
)
def test_an_artifacts_address_stays_below_its_stores_root(uri: str, good: bool) -> None:
    assert is_address(uri) is good
