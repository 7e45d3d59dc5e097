"""`lehr doctor` on a machine where one thing is wrong: each check says so, and is content where nothing is."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lehr.monitoring.doctor import host, packages
from lehr.monitoring.doctor.packages import Pin
from lehr.runtime.errors import UserError
from lehr.runtime.findings import Verdict, clock_skew
from tests.findings import said

OK, WARN, FAIL, UNSEEN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNSEEN
GIB = 1 << 30


# Python and packages


@pytest.mark.parametrize(
    ("version", "verdict", "words"),
    [((3, 12, 1), OK, "3.12.1"), ((3, 13, 0), OK, "without Flyte"), ((3, 10, 9), FAIL, ">=3.11"), ((3, 15, 0), FAIL, "<3.15")],
)
def test_python(version: tuple[int, ...], verdict: Verdict, words: str) -> None:
    said(packages.python(version, "<3.15,>=3.11"), verdict, words)


def test_the_python_that_runs_this_is_one_for_lehr() -> None:
    said(packages.python(), OK)


REQUIRES = (
    "torch==2.13.0", "rich==15.0.0", 'flytekit==1.16.31; python_version < "3.13" and extra == "flyte"',
    'boto3==1.43.117; extra == "cluster"', 'kubernetes==37.0.1; extra == "cluster"', 'pytest==9.2.0; extra == "dev"',
    'lehr[cluster,flyte]; extra == "all"',
)  # fmt: skip
THERE = {"torch": "2.13.0", "rich": "15.0.0", "boto3": "1.43.117", "kubernetes": "37.0.1", "flytekit": "1.16.31"}


def version_of(changes: dict[str, str]) -> Callable[[str], str]:
    return lambda name: {**THERE, **changes}.get(name, "")


def test_pins_are_the_installations_own() -> None:
    torch, rich, flytekit = Pin("torch", "2.13.0"), Pin("rich", "15.0.0"), Pin("flytekit", "1.16.31", "flyte")
    cluster = [Pin("boto3", "1.43.117", "cluster"), Pin("kubernetes", "37.0.1", "cluster")]
    assert packages.pins(REQUIRES, (3, 12)) == [torch, rich, flytekit, *cluster]
    assert packages.pins(REQUIRES, (3, 13)) == [torch, rich, *cluster]
    here = packages.pins()
    assert {"torch", "numpy", "boto3"} <= {pin.name for pin in here} and not {"pytest", "lehr"} & {pin.name for pin in here}
    said(packages.packages(here), OK, "as pinned")
    said(packages.extras(here), OK, "cluster", "export", "track")


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, OK, ["all 2 as pinned"]),
        ({"torch": ""}, FAIL, ["not installed: torch", "pip install torch==2.13.0"]),
        ({"rich": "14.0"}, WARN, ["rich 14.0 for 15.0.0", "pip install rich==15.0.0"]),
        ({"boto3": ""}, OK, []),
    ],
)
def test_packages(changes: dict[str, str], verdict: Verdict, words: list[str]) -> None:
    said(packages.packages(packages.pins(REQUIRES, (3, 12)), version_of(changes)), verdict, *words)
    said(packages.packages([]), UNSEEN, "not installed")


def test_a_builders_mark_is_no_other_version() -> None:
    assert "+" not in packages.installed("torch") and packages.installed("torch") and not packages.installed("no-such-thing")


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, OK, ["cluster, flyte"]),
        ({"flytekit": ""}, OK, ["cluster; without flyte", "lehr[flyte]"]),
        ({"boto3": ""}, WARN, ["half installed, without boto3", "pip install boto3==1.43.117"]),
        ({"kubernetes": "36.0"}, WARN, ["kubernetes 36.0 for 37.0.1"]),
    ],
)
def test_extras(changes: dict[str, str], verdict: Verdict, words: list[str]) -> None:
    said(packages.extras(packages.pins(REQUIRES, (3, 12)), version_of(changes)), verdict, *words)


# Processor, memory, disk


def test_processor(tmp_path: Path) -> None:
    said(host.processor(lambda: True, tmp_path), OK, "with bf16 units")
    said(host.processor(lambda: False, tmp_path), OK, "without bf16 units", "`precision: auto` is fp32")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    said(host.processor(lambda: True, tmp_path), WARN, "the container may use 0.5", "OMP_NUM_THREADS=1")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    said(host.processor(lambda: True, tmp_path), OK)


def test_memory(tmp_path: Path) -> None:
    said(host.memory(tmp_path, tmp_path), UNSEEN, "meminfo")
    (tmp_path / "meminfo").write_text(f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\n")
    said(host.memory(tmp_path, tmp_path), OK, "8.0 GiB, 6.0 free")
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    said(host.memory(tmp_path, tmp_path), WARN, "2.0 GiB (the container's limit)", "need 4 GB")
    (tmp_path / "memory.max").write_text("max\n")
    said(host.memory(tmp_path, tmp_path), OK)


Usage = namedtuple("Usage", "total used free")


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(host.shared_memory(tmp_path / "none"), WARN, "No such file")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 << 20, 0, 64 << 20))
    said(host.shared_memory(tmp_path), WARN, "64 MiB", "--shm-size")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(8 * GIB, 0, 8 * GIB))
    said(host.shared_memory(tmp_path), OK, "8.0 GiB")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said(host.shared_memory(tmp_path), WARN, "cannot be written")


def test_compiler() -> None:
    said(host.compiler(lambda: True), OK)
    said(host.compiler(lambda: False), WARN, "not compiled", "g++")


def test_a_folder_that_holds_what_it_is_trusted_with_stays_as_it_was(tmp_path: Path) -> None:
    said(host.folder("out", lambda: tmp_path / "runs" / "new"), OK, "GiB free")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    said(host.folder("out", lambda: tmp_path / "file"), FAIL, "a file is where a folder is needed")
    said(host.folder("cache", lambda: _refused()), FAIL, "~/.cache: it cannot be had", "set LEHR_CACHE")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _refused() -> Path:
    raise UserError("it cannot be had", where="~/.cache", remedy="set LEHR_CACHE")


@pytest.mark.parametrize(
    ("free", "verdict", "words"), [(100 << 20, FAIL, "the disk is full"), (2 * GIB, WARN, "2.0 GiB free"), (9 * GIB, OK, "")]
)
def test_a_full_disk(free: int, verdict: Verdict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(99 * GIB, 0, free))
    said(host.folder("out", lambda: tmp_path), verdict, words)


def test_a_disk_without_a_name_left_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=100, f_favail=0))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(99 * GIB, 0, 50 * GIB))
    said(host.folder("out", lambda: tmp_path), FAIL, "the disk is full")


def _raising(number: int) -> Callable[..., None]:
    def call(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_file_systems_that_cannot_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda file, how: None)
        said(host.folder("out", lambda: tmp_path), FAIL, "its locks hold nobody off", "a local disk")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", _raising(errno.EPERM))
        said(host.folder("out", lambda: tmp_path), FAIL, "cannot be linked")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _raising(errno.ENOSPC))
        said(host.folder("out", lambda: tmp_path), FAIL, "the disk is full")
    assert not list(tmp_path.iterdir())


# Clocks


@pytest.mark.parametrize(
    ("ours", "verdict", "words"),
    [(1010.0, OK, "within"), (1040.0, WARN, "40 s ahead of"), (960.0, WARN, "40 s behind"), (2000.0, FAIL, "1,000 s ahead")],
)
def test_clocks(ours: float, verdict: Verdict, words: str) -> None:
    said(clock_skew("clock", 1000.0, ours, "the store"), verdict, words)
    said(clock_skew("clock", None, ours, "the store"), UNSEEN, "does not say")
