"""What the tests of the exporter share: a clock and a meter that the test moves, and what a scraper reads."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from lehr.monitoring.gpus import Gpus, Reading


class Meter:
    """A power meter whose needle the test moves."""

    source = "estimated"

    def __init__(self) -> None:
        self.value = 100.0

    def joules(self) -> float:
        return self.value


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    """(sample name, stage) -> value."""
    return {
        (s.name, s.labels.get("stage", "")): s.value for family in text_string_to_metric_families(text) for s in family.samples
    }


STEP = {
    "loss": 2.5,
    "grad_norm": 0.9,
    "learning_rate": 3e-3,
    "tokens": 2048,
    "flops": 1e9,
    "step_seconds": 0.2,
    "data_seconds": 0.05,
    "never_heard_of": 1.0,
}


class OneGpu(Gpus):
    def __init__(self) -> None:
        return None

    def read(self) -> list[Reading]:
        return [Reading(2, used=3 * 2**30, total=80 * 2**30)]
