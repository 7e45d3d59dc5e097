"""Alerts about `lehr serve`: it fails, it refuses, it stands still, it is slower than it was, it is gone.

The servers of one `job` in a namespace are taken for one service. Its failures are held against an objective by how fast they
use up what it allows, over two windows each: the long one says how much is lost, the short one whether it goes on. Factors and
windows are those of Google's "The Site Reliability Workbook", chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from __future__ import annotations

from lehr.monitoring.metrics import Metric
from lehr.monitoring.metrics import serving as m
from lehr.monitoring.rules.rule import Alert, Recording, rate
from lehr.serving.counts import ANSWERING

SERVICE, SERVER = "namespace, job", "namespace, job, pod, instance"
OF, AT = "{{ $labels.job }}", "{{ $labels.job }} at {{ $labels.instance }}"
ASKED = f'operation=~"{"|".join(ANSWERING)}"'  # neither scrapes, which are answered always, nor a trainer's weights
FAILED = f'{{{ASKED},code=~"5.."}}'
TAKEN = f'{{{ASKED},code!~"4.."}}'  # what was refused, or given up by its client, is neither good nor bad
REFUSED = f'{{{ASKED},code="429"}}'
ALLOWED = 0.01  # of the requests may fail: the objective is 99 %
FAST = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW = ((3.0, "1d", "2h"),)
FAILURES = 5  # in the long window: of three requests one is a third, and no news
REFUSALS, REFUSED_SHARE = 10, 0.05
FULL, GREW = 0.9, 0.5  # of the rows
SLOWER, SLOW_SECONDS, ANSWERS, KNOWN = 5, 2, 20, 200
RESTARTS = 3


def failures(window: str) -> str:
    """The name of the series of the share of a service's requests that fail."""
    return f"service:lehr_serve_failures:ratio_rate{window}"


def _grew(metric: Metric, window: str, by: str, where: str = "") -> str:
    """By how much a counter grew; unlike a run's, a server's stand at 0 before their first event."""
    return f"sum by ({by}) (increase({metric.name}{where}[{window}]))"


def recordings() -> list[Recording]:
    """The shares of failures over all windows. Without requests they are NaN, which is above nothing."""
    windows = dict.fromkeys(window for _, *both in (*FAST, *SLOW) for window in reversed(both))
    return [
        Recording(failures(window), f"{rate(m.REQUESTS, window, SERVICE, FAILED)} / {rate(m.REQUESTS, window, SERVICE, TAKEN)}")
        for window in windows
    ]


def _burns(factor: float, long: str, short: str) -> str:
    limit = f"{factor * ALLOWED:g}"
    enough = f"{_grew(m.REQUESTS, long, SERVICE, FAILED)} > {FAILURES}"
    return f"({failures(long)} > {limit} and {failures(short)} > {limit} and {enough})"


def _failing() -> list[Alert]:
    return [
        Alert(
            "LehrServeFailing",
            "critical",
            " or ".join(_burns(*pair) for pair in FAST),
            f"{OF} fails requests: read the server's log for the error, then go back to what worked or restart it",
            f"{{{{ $value | humanizePercentage }}}} of the requests of {OF} that it took ended in a status of 500 or above.",
            lasts="2m",
        ),
        Alert(
            "LehrServeErrors",
            "warning",
            " or ".join(_burns(*pair) for pair in SLOW),
            f"{OF} fails some requests all day long: find what they have in common in the server's log",
            f"{{{{ $value | humanizePercentage }}}} of a day's requests of {OF} ended in a status of 500 or above.",
            lasts="15m",
        ),
    ]


def _refusing() -> Alert:
    share = f"{rate(m.REQUESTS, '10m', SERVICE, REFUSED)} / {rate(m.REQUESTS, '10m', SERVICE, f'{{{ASKED}}}')}"
    return Alert(
        "LehrServeRefusing",
        "critical",
        f"{share} > {REFUSED_SHARE} and {_grew(m.REQUESTS, '10m', SERVICE, REFUSED)} > {REFUSALS}",
        f"{OF} turns requests away with 429: give it more rows or another server, or slow down whoever asks most",
        f"{{{{ $value | humanizePercentage }}}} of ten minutes' requests of {OF} found its queue or its connections full.",
    )


def _saturated() -> Alert:
    """A queue that a batch fills at once and that shrinks is no news, nor one that keeps its length."""

    def mean(window: str) -> str:
        return f"max by ({SERVER}) (avg_over_time({m.WAITING.name}{window}))"

    rows = f"max by ({SERVER}) ({m.ROWS.name})"
    grew = f"{mean('[5m]')} - {mean('[5m] offset 10m')}"
    always = f"max by ({SERVER}) (min_over_time({m.WAITING.name}[15m])) > 0"
    full = f"max by ({SERVER}) (avg_over_time({m.RUNNING.name}[15m])) > {FULL} * {rows}"
    return Alert(
        "LehrServeSaturated",
        "warning",
        f"{grew} > {GREW} * {rows} and {always} and {full}",
        f"More is asked of {AT} than it answers: add rows or a server before it turns requests away",
        f"All rows of {AT} are in use, and within ten minutes its queue grew by {{{{ $value | humanize }}}} answers.",
        keeps="10m",
    )


def _stuck() -> Alert:
    work = f"max by ({SERVER}) ({m.RUNNING.name} + {m.WAITING.name})"
    tokens = f"max by ({SERVER}) (increase({m.TOKENS.name}[5m]))"
    return Alert(
        "LehrServeStuck",
        "critical",
        f"{work} > 0 unless {tokens} > 0",
        f"{AT} has answers to give and decodes none: look at its log and its device, then restart it",
        f"{{{{ $value }}}} answers of {AT} are begun or wait, and in five minutes there was not one token.",
    )


def _slow() -> Alert:
    """Nine in ten first tokens against those of the day before the last hour. What is normal is the server's own matter: its
    model, its machine, the prompts that it gets."""
    first = m.FIRST_TOKEN_SECONDS.name

    def seconds(window: str) -> str:
        return f"histogram_quantile(0.9, sum by (le, {SERVICE}) (rate({first}_bucket{window})))"

    def answers(window: str) -> str:
        return f"sum by ({SERVICE}) (increase({first}_count{window}))"

    return Alert(
        "LehrServeSlow",
        "warning",
        f"({seconds('[10m]')} > {SLOW_SECONDS}) > {SLOWER} * {seconds('[1d] offset 1h')}"
        f" and {answers('[10m]')} > {ANSWERS} and {answers('[1d] offset 1h')} > {KNOWN}",
        f"Answers of {OF} begin much later than usual: see whether they wait for a row or their prompts are longer",
        f"One in ten answers of {OF} begins after {{{{ $value | humanizeDuration }}}} or later, over {SLOWER} times as late as "
        "in the day before.",
        lasts="15m",
        keeps="10m",
    )


def _gone() -> list[Alert]:
    """A target is known for a server by what it served within a day, or by its job's name. One that Prometheus no longer has
    was taken away by somebody."""
    known = f"up == 0 and present_over_time({m.ROWS.name}[1d])"
    return [
        Alert(
            "LehrServeDown",
            "critical",
            f'max by ({SERVER}) ({known} or up{{job=~"(.*/)?lehr-serve"}} == 0)',
            f"{AT} does not answer scrapes: see whether it runs, then whether Prometheus may reach it",
            f"Prometheus has {AT} among its targets and gets no metrics from it.",
        ),
        Alert(
            "LehrServeRestarting",
            "critical",
            f"max by ({SERVER}) (changes({m.STARTED.name}[30m])) >= {RESTARTS}",
            f"{AT} starts again and again: read how its last process ended, memory first",
            f"{AT} began {{{{ $value }}}} times anew in half an hour; each time all requests in work were lost.",
            lasts="1m",
        ),
    ]


def alerts() -> list[Alert]:
    """All of them."""
    return [*_failing(), _refusing(), _saturated(), _stuck(), _slow(), *_gone()]
