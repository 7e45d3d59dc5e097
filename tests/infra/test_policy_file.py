"""A policy's and a controller's files: what people write there is refused in one line, or taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import Policy
from lehr.runtime.errors import UserError


@pytest.mark.parametrize("load", [Policy.load, Settings.load])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"suspect_seconds: 1\nsuspect_seconds: 2\n", "stands twice"),
        (b"suspect_seconds: " + b"9" * 5000, "more than 64 bits"),
        (b"x: 2020-13-45\n", "Known keys"),
        (b"x: !!int y\n", "tags such as"),
        (b"x: " + b"[" * 5000, "nested more than"),
        (b"x: &x [*x]\n", "an alias refers to a value that contains it"),
        (b"- 1\n", "is a mapping of keys"),
        (b"{", "not YAML"),
    ],
)
def test_files_that_say_nothing_are_refused_in_one_line(load: object, content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        load(path)  # type: ignore[operator]
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_thresholds_are_finite_and_an_empty_file_keeps_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("suspect_seconds: .inf\n")
    with pytest.raises(UserError, match="finite"):
        Policy.load(path)
    path.write_text("lease_seconds: .inf\n")
    with pytest.raises(UserError, match="finite"):
        Settings.load(path)
    path.write_text("# nothing\n")
    assert Policy.load(path) == Policy()
    with pytest.raises(UserError, match="no such policy file"):
        Policy.load(tmp_path / "none.yaml")
