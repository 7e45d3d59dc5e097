"""Settings of every test: one thread, no telemetry, no network but loopback, the same examples each time."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two OpenMP teams on two cores spin against each other
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ.pop("LEHR_DEBUG", None)
# Tests start `lehr` a thousand times, and compiling its modules anew takes 1.5 s of a core each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Processor time of what lives for seconds: Go collects garbage less often, a JVM compiles less, and kernels that torch compiled
# for an earlier run of the tests are found again.
os.environ.setdefault("GOGC", "400")
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path("~/.cache/lehr/inductor").expanduser()))
# What a process that believes itself in a pod serves: here on loopback too, and nobody comes to fetch what it says last.
os.environ.update(LEHR_METRICS_ADDRESS="127.0.0.1", LEHR_METRICS_PORT="0", LEHR_METRICS_LAST_SCRAPE_SECONDS="0")

settings.register_profile("lehr", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lehr")

ROOT = Path(__file__).resolve().parent.parent
TAKE_MINUTES = [ROOT / f"tests/cluster/test_{name}.py" for name in ("submit", "engine", "flyte_submit", "chart")]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of `-m "long ..."` only files in which that mark stands are loaded: to load all takes each worker half a minute."""
    if not config.option.markexpr.startswith("long") or not collection_path.name.startswith("test_"):
        return None
    return "pytest.mark.long" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End-to-end runs and the files that take minutes come first, so that no worker has to wait for another at the end."""
    items.sort(key=lambda item: "e2e" not in item.path.parts and item.path not in TAKE_MINUTES)


@lru_cache
def _says(file: str, words: str) -> bool:
    return words in (ROOT / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers one makes the end-to-end tests that share a finished run, but for the kills, which make their own,
    and one those that read all of the code, which takes ten seconds. Other files go whole to whoever is free."""
    from xdist.scheduler import LoadScopeScheduling

    class EndToEndTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if "/e2e/" in file and not file.endswith("test_kill.py") and _says(file, "finished: "):
                return "e2e"
            return "code" if _says(file, " sources") and _says(file, "tests.graph.source import") else file

    return EndToEndTogether(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


def _is_loopback(address: object) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    host = str(address[0])
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host == socket.gethostname()  # gloo looks for its own address this way


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """A test that reaches for the network fails and says where it wanted to go."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if not _is_loopback(address):
            raise RuntimeError(f"a test tried to reach {address!r}; tests use loopback only")
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign, assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]
