"""`lehr doctor --out s3://…`: a sound store passes every check and keeps nothing; each broken promise fails its own."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from lehr.artifacts.object_store import store_checks
from lehr.artifacts.object_store.store_checks import check_store
from lehr.cli.main import main
from lehr.infra.storage import S3Objects
from lehr.monitoring.doctor import gpus
from lehr.runtime.errors import InfraError, UserError
from lehr.runtime.findings import Finding, Verdict
from tests.storage import s3_server

NAMES = ["clock of the store", "reach the store", "read after write", "conditional put", "list after write", "large objects"]
PART = 5 << 20


def found(store: Any, date: float | None = None) -> dict[str, Finding]:
    return {f.check: f for f in check_store(store, lambda: date or time.time(), PART + (1 << 20))}


def test_a_sound_store_passes_and_keeps_nothing(root: str) -> None:
    store = S3Objects(root)
    store.part_bytes = PART
    findings = list(check_store(store, store.date, PART + (1 << 20)))
    assert [f.check for f in findings] == [*NAMES, "delete"]
    assert {f.verdict for f in findings} == {Verdict.OK}, findings
    assert store.keys("") == []
    assert store.date() == pytest.approx(time.time(), abs=5)


def test_the_command_tries_the_store_that_is_named(
    root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpus, "build", lambda: gpus.Build("2.13.0"))
    assert main(["doctor", "--out", root, "--json"]) == 0
    out = capsys.readouterr().out
    rows = [row for row in json.loads(out)["checks"] if row["section"] == f"The store {root}"]
    assert [row["check"] for row in rows] == [*NAMES, "delete"] and {row["verdict"] for row in rows} == {"ok"}
    assert s3_server.SECRET not in out and S3Objects(root).keys("") == []


class Sound:
    """A store in memory that keeps every promise. Tests break one."""

    root = "s3://b/r"

    def __init__(self) -> None:
        self.there: dict[str, tuple[str, str]] = {}
        self.files: dict[str, bytes] = {}

    def get(self, key: str) -> tuple[str, str] | None:
        return self.there.get(key)

    def put(self, key: str, value: str, version: str | None) -> str:
        from lehr.runtime.ports import Conflict

        before = self.there.get(key)
        if (before[1] if before else None) != version:
            raise Conflict(key)
        self.there[key] = value, f"{key}-{value}"
        return self.there[key][1]

    def upload(self, files: Mapping[str, Path]) -> None:
        self.files |= {key: path.read_bytes() for key, path in files.items()}

    def download(self, files: Mapping[str, Path]) -> None:
        for key, path in files.items():
            path.write_bytes(self.files[key])

    def keys(self, prefix: str) -> list[str]:
        return [key for key in (*self.there, *self.files) if key.startswith(prefix)]

    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self.there.pop(key, None)
            self.files.pop(key, None)

    def abort_uploads(self, prefix: str) -> None:
        """There are none."""


class Stale(Sound):
    """Reads what was there before the last put."""

    def __init__(self) -> None:
        super().__init__()
        self.old: dict[str, tuple[str, str]] = {}

    def get(self, key: str) -> tuple[str, str] | None:
        return self.old.get(key, super().get(key))

    def put(self, key: str, value: str, version: str | None) -> str:
        if key in self.there:
            self.old[key] = self.there[key]
        return super().put(key, value, version)


class Absent(Sound):
    def get(self, key: str) -> tuple[str, str] | None:
        return None


class Unconditional(Sound):
    def put(self, key: str, value: str, version: str | None) -> str:
        self.there[key] = value, f"{key}-{value}"
        return self.there[key][1]


class Racing(Sound):
    """Of several who make one object at the same moment each is told that it was first; of two in turn only one."""

    lock = Lock()

    def put(self, key: str, value: str, version: str | None) -> str:
        with self.lock:
            if key.endswith("/conditional-put"):
                self.there.pop(key, None)
            return super().put(key, value, version)


class Unlisted(Sound):
    def keys(self, prefix: str) -> list[str]:
        return []


class Truncating(Sound):
    def download(self, files: Mapping[str, Path]) -> None:
        for key, path in files.items():
            path.write_bytes(self.files[key][:-1])


class KeepsUploads(Sound):
    def abort_uploads(self, prefix: str) -> None:
        raise UserError("the store refuses these credentials (AccessDenied)", where=self.root, remedy="allow it")


class KeepsAll(Sound):
    def delete(self, keys: Collection[str]) -> None:
        raise InfraError("s3://b/r: probe/x was not deleted (AccessDenied)")


class Forgetful(Sound):
    """Says that it deleted."""

    def delete(self, keys: Collection[str]) -> None:
        return None


ALSO = {Stale: ("delete",), KeepsAll: ("conditional put",), Absent: ()}  # a check that deletes or reads as well


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (Stale, "read after write", "the old one is read"),
        (Absent, "read after write", "is not the one that is read"),
        (Unconditional, "conditional put", "If-None-Match forbids it"),
        (Racing, "conditional put", "at the same moment 8 succeeded"),
        (Unlisted, "list after write", "not listed at once"),
        (Truncating, "large objects", "other bytes"),
        (KeepsUploads, "large objects", "AccessDenied"),
        (KeepsAll, "delete", "left behind below s3://b/r/probe/"),
        (Forgetful, "delete", "still read or listed"),
    ],
)
def test_each_broken_promise_fails_its_own_check(kind: type[Sound], check: str, words: str) -> None:
    findings = found(kind())
    failed = {name for name, finding in findings.items() if finding.verdict is Verdict.FAIL}
    assert check in failed and words in findings[check].found, findings
    assert failed == {check, *ALSO.get(kind, ())}, findings
    assert findings[check].remedy


def test_a_real_server_that_ignores_conditions_fails(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_checks, "STEPS", [step for step in store_checks.STEPS if step[0] == "conditional put"])
    with s3_server.careless() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        *_, finding = islice(check_store(S3Objects("s3://b/r"), time.time, PART), 3)
    assert finding.verdict is Verdict.FAIL and "If-None-Match forbids it" in finding.found and "SeaweedFS" in finding.remedy


def test_a_store_that_does_not_answer_is_asked_nothing_else(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def only(where: str) -> Finding:
        store = S3Objects(where)
        findings = list(check_store(store, store.date, PART))
        assert [f.check for f in findings if f.check != "clock of the store"] == ["reach the store"], findings
        assert findings[-1].verdict is Verdict.FAIL and s3_server.SECRET not in str(findings)
        return findings[-1]

    assert "there is no bucket no-such-bucket" in only("s3://no-such-bucket/x").found
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "refuses these credentials" in only(root).found
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.free_port()}")
    assert "cannot be reached" in only(root).found


@pytest.mark.parametrize(("ahead", "verdict"), [(60, Verdict.WARN), (1000, Verdict.FAIL), (2, Verdict.OK)])
def test_the_stores_clock(ahead: float, verdict: Verdict) -> None:
    findings = found(Sound(), time.time() - ahead)
    assert findings["clock of the store"].verdict is verdict
    assert {f.verdict for name, f in findings.items() if name != "clock of the store"} == {Verdict.OK}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nothing of these checks stays in the temporary folder."""
    import tempfile

    yield
    assert not list(Path(tempfile.gettempdir()).glob("lehr-doctor-*"))
