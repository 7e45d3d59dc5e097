"""A real Prometheus on loopback: over blocks made of samples, or scraping."""

from __future__ import annotations

import json
import math
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lehr.monitoring.panels.query import RANGE, RATE
from tests.cluster.plane import HOST, free_port
from tests.cluster.provide import find

Labels = tuple[tuple[str, str], ...]


@dataclass
class Prometheus:
    """Its address, and what was asked of it."""

    url: str

    def at(self, query: str, when: float) -> dict[Labels, float]:
        """Labels without the name -> value, at one moment."""
        found = self._ask("query", query=query, time=f"{when:.3f}")
        return {_labels(one): float(one["value"][1]) for one in found["result"]}

    def ever(self, query: str, began: float, ended: float, step: float = 0.5) -> bool:
        """Whether it has a value that is a number at any time."""
        found = self._ask("query_range", query=query, start=f"{began:.3f}", end=f"{ended:.3f}", step=str(step))
        return any(math.isfinite(float(value)) for one in found["result"] for _, value in one["values"])

    def _ask(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from error


def _labels(one: dict[str, Any]) -> Labels:
    return tuple(sorted((name, value) for name, value in one["metric"].items() if name != "__name__"))


def expanded(text: str, rate: str, whole: str, **variables: str) -> str:
    """A query as Grafana sends it: its own variables, and the board's."""
    text = text.replace(RATE, rate).replace(RANGE, whole)
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    assert "$" not in text, text
    return text


def blocks(openmetrics: str, folder: Path) -> Path:
    """A database with these samples."""
    source, data = folder / "samples.om", folder / "data"
    source.write_text(openmetrics, encoding="utf-8")
    command = [str(find("promtool")), "tsdb", "create-blocks-from", "openmetrics", str(source), str(data)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return data


@contextmanager
def serving(folder: Path, data: Path, targets: Sequence[str] = (), interval: str = "1s") -> Iterator[Prometheus]:
    """Run one over `data` that scrapes `targets`; stopped by its pid."""
    config = folder / "prometheus.yml"
    jobs = [{"job_name": "lehr", "static_configs": [{"targets": list(targets)}]}] if targets else []
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": interval}, "scrape_configs": jobs}), encoding="utf-8")
    port = free_port()
    command = [str(find("prometheus")), f"--config.file={config}", f"--storage.tsdb.path={data}",
               "--storage.tsdb.retention.time=100y", f"--web.listen-address={HOST}:{port}", "--log.level=warn"]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _await_ready(process, f"http://{HOST}:{port}", folder / "prometheus.log")
        yield Prometheus(f"http://{HOST}:{port}")
    finally:
        process.terminate()
        process.wait(30)


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Prometheus is not ready: {log.read_text(encoding='utf-8', errors='replace')}")
