"""The check of requirements.lock, on an index of four packages in a folder."""

from __future__ import annotations

import html
import importlib.util
import os
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.graph.source import ROOT


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The check; its pip sees the index in `tmp_path` and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}")
    spec = importlib.util.spec_from_file_location("check_lock", ROOT / ".ci" / "check_lock.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(index: Path, name: str, tag: str = "py3-none-any", allowed: str = ">=3.9") -> None:
    """Add a wheel without contents to an index."""
    folder, file = index / name, f"{name}-1.0-{tag}.whl"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / file, "w") as inside:
        about = f"{name}-1.0.dist-info"
        inside.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: {allowed}\n")
        inside.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        inside.writestr(f"{about}/RECORD", "")
    with (folder / "index.html").open("a") as page:
        page.write(f'<a href="{file}" data-requires-python="{html.escape(allowed)}">{file}</a>\n')


def test_a_pin_that_some_python_cannot_install_is_named_with_that_python(check: ModuleType, tmp_path: Path) -> None:
    wheel(tmp_path, "pure")
    wheel(tmp_path, "stable", "cp310-abi3-manylinux_2_17_x86_64")
    wheel(tmp_path, "bounded", allowed=">=3.9,<3.13")
    for python in ("311", "312", "313"):
        wheel(tmp_path, "compiled", f"cp{python}-cp{python}-manylinux_2_28_x86_64")
    good = "pure==1.0\nstable==1.0\nbounded==1.0 ; python_full_version < '3.13'\nabsent==1.0 ; sys_platform == 'win32'\n"
    assert check.refusals(good, tmp_path) == []
    bounded, compiled = check.refusals(
        "pure==1.0\nbounded==1.0 ; python_version < '3.14'\ncompiled==1.0 ; python_version != '3.13'\n", tmp_path
    )
    assert bounded.startswith("Python 3.13 on Linux x86_64: ") and "bounded==1.0" in bounded
    assert compiled.startswith("Python 3.14 on Linux x86_64: ") and "compiled==1.0" in compiled
