"""`lehr doctor` as a user meets it: what it prints where, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.cli import doctor, flyte
from lehr.cli.main import main
from lehr.cli.nodes import nodes
from lehr.cli.submit import submit
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import GPU_RESOURCE
from lehr.monitoring.doctor import gpus, host, packages
from lehr.runtime.errors import UserError
from lehr.runtime.findings import Finding, fail, ok, unseen, warn
from tests.cli.conftest import ROOT

MACHINE = ["Python", "packages", "extras", "processor", "memory", "shared memory", "C++ compiler", "cache", "temporary folder"]


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with nothing wrong, whatever this one is like."""
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpus, "build", lambda: gpus.Build("2.13.0"))
    for module, names in (
        (packages, ("packages", "extras")),
        (host, ("processor", "memory", "shared_memory", "compiler", "folder")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *said, name=name: ok(str(said[0]) if name == "folder" else name, "fine"))


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each check once, and nothing is left where one was made."""
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    code = main(["doctor", "--json", "--out", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert [row["check"] for row in data["checks"]] == [*MACHINE, "clock", "torch", "GPUs", "folder"]
    assert code == 0 and data["ok"] and not err, data
    assert set(data["checks"][0]) == {"section", "check", "verdict", "found", "remedy"}
    assert data["checks"][-1]["section"] == f"The folder {tmp_path / 'out'}" and not (tmp_path / "out").exists()


def test_a_failure_ends_with_2_and_a_warning_with_0(
    sound: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    assert " fail" not in capsys.readouterr().out
    monkeypatch.setattr(host, "memory", lambda: warn("memory", "2.0 GiB", "give it more"))
    assert main(["doctor"]) == 0
    assert "2.0 GiB. Give it more." in capsys.readouterr().out
    monkeypatch.setattr(host, "memory", lambda: fail("memory", "none", "give it some"))
    assert main(["doctor"]) == 2
    printed = capsys.readouterr().out
    assert "none. Give it some." in printed and "1 fail" in printed.splitlines()[-1]
    monkeypatch.setattr(host, "memory", lambda: unseen("memory", "dark"))
    assert main(["doctor"]) == 0
    assert "not looked at" in capsys.readouterr().out


def test_without_a_package_nothing_of_lehrs_is_imported(
    sound: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is rich, which may be the one: lines take the table's place."""
    monkeypatch.setattr(
        packages, "packages", lambda pins: fail("packages", "not installed: rich", "run: pip install rich==15.0.0")
    )
    monkeypatch.setattr(host, "processor", lambda: pytest.fail("looked at all the same"))
    monkeypatch.setitem(sys.modules, "lehr.cli.tables", None)
    assert main(["doctor"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "packages: fail: not installed: rich. Run: pip install rich==15.0.0." in lines and lines[-1] == "2 ok, 1 fail"


def test_what_ends_a_section_is_its_last_line(
    sound: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A package that an extra brings, and a kubeconfig that is not there."""
    monkeypatch.setitem(sys.modules, "lehr.infra.storage", None)

    def missing(name: str) -> Iterator[Finding]:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        yield

    monkeypatch.setattr(doctor, "_store", lambda out: missing("boto3"))
    assert main(["doctor", "--out", "s3://bucket/x", "--cluster", "--kubeconfig", str(tmp_path / "none")]) == 2
    printed = capsys.readouterr().out
    assert "the package boto3 is not installed" in printed and "lehr[cluster]" in printed
    assert "no usable configuration for a cluster" in printed and "2 fail" in printed


def test_what_needs_a_cluster_is_refused_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-n", "training"]) == 2
    assert "Add --cluster." in capsys.readouterr().err


def test_flyte_itself_is_asked_where_that_is_wanted(
    sound: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And the cluster is looked at in the namespace of its pods."""
    places: list[str] = []

    class Flyte:
        address = "flyte.example.org:443"

        def __init__(self, *given: str) -> None:
            self.given = given

        def check(self) -> None:
            if self.given != ("", "lehr", "production"):
                raise UserError("this Flyte has no domain 'x'", where="--domain", remedy="there are: production")

    monkeypatch.setattr(flyte, "flyte", Flyte)
    monkeypatch.setattr(doctor, "_cluster", lambda pods, *more: places.append(pods) or [])
    assert main(["doctor", "--flyte", "--domain", "production", "--cluster"]) == 0
    assert "flyte.example.org:443 answers" in capsys.readouterr().out and places == ["lehr-production"]
    assert main(["doctor", "--flyte", "--domain", "x", "--cluster", "-n", "own"]) == 2
    assert "no domain 'x'. There are: production." in capsys.readouterr().out and places[1:] == ["own"]


def test_no_secret_is_printed(sound: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STORE_SECRET_KEY", "planted-secret")
    words = fail("memory", "at https://user:planted-pass@host/x with planted-secret", "ask planted-secret\x1b[2J")
    monkeypatch.setattr(host, "memory", lambda: words)
    for more in ([], ["--json"]):
        assert main(["doctor", *more]) == 2
        printed = capsys.readouterr().out
        assert "planted" not in printed and "***" in printed and "\x1b[2J" not in printed


_WITHOUT_TORCH = """
import sys
from lehr.cli.main import main
from lehr.monitoring.doctor import gpus
gpus.build = lambda: gpus.Build("2.13.0")  # its import takes seconds
sys.exit(main(["doctor"]))
"""


def test_a_table_fits_a_terminal_of_80_columns_and_says_what_is_at_work(tmp_path: Path) -> None:
    reader, writer = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "LEHR_CACHE": str(tmp_path / ("deep/" * 20) / "cache")}
    command = [sys.executable, "-c", _WITHOUT_TORCH]
    process = subprocess.Popen(command, cwd=ROOT, stdin=writer, stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    seen = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(reader)
    assert process.wait(60) == 0
    text = seen.decode()
    assert "is done" in text
    table = text[text.index("This machine") :]
    plain = [_plain(line) for line in table.splitlines()]
    assert max(map(len, plain)) <= 80 and any(line.startswith("GPUs") for line in plain)


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)


def test_the_gpus_name_is_one_for_all() -> None:
    """The command line cannot import it: the policy's module loads pydantic, and help must not."""
    found = {p.name: p.default for c in (submit, nodes, doctor.doctor) for p in c.params if p.name == "gpu_resource"}
    assert found == {"gpu_resource": GPU_RESOURCE} == {"gpu_resource": Settings().gpu_resource}
