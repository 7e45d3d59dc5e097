"""Files that people write for the fleet: what YAML lets pass in silence is refused in one line that names file and place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import Policy
from lehr.infra.simulate.failures import LLAMA3, FailureTable
from lehr.runtime.errors import UserError

READERS: tuple[Callable[[Path], object], ...] = (Policy.load, Settings.load, FailureTable.load)
BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
TEXTS = {
    "a key twice": "gate_seconds: 120\ngate_seconds: 1\n",
    "a key twice, below": "policy:\n  gate_seconds: 120\n  gate_seconds: 1\n",
    "an anchor bomb": BOMB,
    "nested": "[" * 20_000,
    "no date": "gate_seconds: 2020-13-45\n",
    "digits": f"gate_seconds: {'9' * 5000}\n",
    "a tag": "gate_seconds: !!python/object:os.system x\n",
    "no key": "? [a, b]\n: 1\n",
    "control": "gate_seconds: \x01\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_yaml_lets_pass_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(TEXTS[name], encoding="utf-8")
    for load in READERS:
        with pytest.raises(UserError) as found:
            load(path)
        line = str(found.value)
        assert str(path) in line and "\n" not in line and len(line) < 1000
    if "twice" in name:
        assert "'gate_seconds' stands twice" in line and f"{path}:{TEXTS[name].count(chr(10))}" in line


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "'inf'", "1e999"])
def test_a_number_that_is_not_finite_is_no_threshold(tmp_path: Path, number: str) -> None:
    """With `.inf` seconds no evidence ever grew old, and no hold of an override ever ended."""
    path = tmp_path / "file.yaml"
    table = LLAMA3.read_text(encoding="utf-8").replace("days: 54", f"days: {number}")
    cases = ((Policy.load, f"signal_window_seconds: {number}"), (Policy.load, f"burn_in_created_after: {number}"),
             (Settings.load, f"lease_seconds: {number}"), (Settings.load, f"policy: {{gate_seconds: {number}}}"),
             (FailureTable.load, table))  # fmt: skip
    for load, text in cases:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"finite|greater"):
            load(path)
    path.write_text("signal_window_seconds: 3600\n", encoding="utf-8")
    assert Policy.load(path) == Policy(signal_window_seconds=3600)
