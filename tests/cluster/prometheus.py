"""A real Prometheus on loopback: over blocks made of samples, or scraping."""

from __future__ import annotations

import json
import math
import re
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

from lehr.infra.kube.api import Api, Object
from lehr.monitoring.panels.query import RANGE, RATE
from tests.cluster.plane import HOST, free_port
from tests.cluster.provide import find

Labels = tuple[tuple[str, str], ...]
_POD = "__meta_kubernetes_pod"


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
def serving(
    folder: Path, data: Path, targets: Sequence[str] = (), interval: str = "1s", more: Sequence[Object] = ()
) -> Iterator[Prometheus]:
    """Run one over `data` that scrapes `targets`, and `more` scrape configurations; stopped by its pid."""
    config = folder / "prometheus.yml"
    jobs = [*([{"job_name": "lehr", "static_configs": [{"targets": list(targets)}]}] if targets else []), *more]
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


def of_pod_monitor(monitor: Object, token: str, api: Api, folder: Path) -> Object:
    """The scrape configuration that the Prometheus operator makes of a PodMonitor with one endpoint, as far as ours go: written
    after its generator (pkg/prometheus/promcfg.go). `token` is what the Secret that it names holds. Debian's Prometheus finds
    no pods: `folder` gets a file with what it would find now, under the names that it gives."""
    (endpoint,), meta = monitor["spec"]["podMetricsEndpoints"], monitor["metadata"]
    steps = [{"source_labels": [f"{_POD}_phase"], "regex": "(Failed|Succeeded)", "action": "drop"}]
    for wanted in monitor["spec"]["selector"]["matchExpressions"]:
        assert wanted["operator"] == "Exists"
        steps.append({"source_labels": [f"{_POD}_labelpresent_{_plain(wanted['key'])}"], "regex": "true", "action": "keep"})
    steps.append({"source_labels": [f"{_POD}_container_port_name"], "regex": endpoint["port"], "action": "keep"})
    named = {"__meta_kubernetes_namespace": "namespace", f"{_POD}_container_name": "container", f"{_POD}_name": "pod"}
    steps += [{"source_labels": [source], "target_label": label} for source, label in named.items()]
    steps.append({"target_label": "job", "replacement": f"{meta['namespace']}/{meta['name']}"})
    words = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    steps += [{words.get(key, key): value for key, value in step.items()} for step in endpoint.get("relabelings", [])]
    namespaces = monitor["spec"].get("namespaceSelector", {}).get("matchNames", [meta["namespace"]])
    found = folder / "pods.json"
    found.write_text(json.dumps([one for where in namespaces for one in _ports(api, where)]), encoding="utf-8")
    sends = {"authorization": {"credentials": token}} if "authorization" in endpoint else {}
    limit, name = monitor["spec"]["sampleLimit"], f"podMonitor/{meta['namespace']}/{meta['name']}/0"
    files = [{"files": [str(found)]}]
    return {"job_name": name, "sample_limit": limit, "file_sd_configs": files, "relabel_configs": steps, **sends}


def _ports(api: Api, namespace: str) -> Iterator[Object]:
    """Every port of every pod as Prometheus' discovery of pods shows it (its documentation, kubernetes_sd_config, role pod)."""
    for pod in api.items(f"/api/v1/namespaces/{namespace}/pods"):
        labels = pod["metadata"].get("labels", {})
        seen = {"__meta_kubernetes_namespace": namespace, f"{_POD}_name": pod["metadata"]["name"]}
        seen |= {f"{_POD}_phase": pod["status"]["phase"]}
        seen |= {f"{_POD}_label_{_plain(key)}": value for key, value in labels.items()}
        seen |= {f"{_POD}_labelpresent_{_plain(key)}": "true" for key in labels}
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                own = {f"{_POD}_container_name": container["name"], f"{_POD}_container_port_name": port.get("name", "")}
                yield {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": {**seen, **own}}


def _plain(key: str) -> str:
    return re.sub(r"\W", "_", key)


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
