"""Of the board Fleet health: whether the controller itself works."""

from __future__ import annotations

from lehr.monitoring.metrics import Fleet as f
from lehr.monitoring.panels.boards.common import ROUNDS, at
from lehr.monitoring.panels.forms import age, rate
from lehr.monitoring.panels.panel import Panel, Series
from lehr.monitoring.panels.query import Quantile

LAST_ROUND = Panel(
    "Since the last round",
    "Seconds since the controller last decided about all nodes.",
    "below its resync interval.",
    "runbook LehrControllerDown.",
    "s",
    (Series(age(f.RECONCILE_TIME), "since the last round"),),
    width=6,
    axis="zero",
    thresholds=at((120, "watch"), (300, "bad")),
    base="good",
)
ROUND = Panel(
    "Time of a round",
    "99 in 100 rounds of decisions are as fast or faster.",
    "below a second for 2,000 nodes.",
    "a busy API server (Requests), or a processor limit of its pod.",
    "s",
    (Series(Quantile(0.99, f.RECONCILE, (), ROUNDS), "99 %"),),
    width=6,
    axis="zero",
    thresholds=at((1, "watch"), (10, "bad")),
    base="good",
)
ERRORS = Panel(
    "Errors",
    "Requests and watches that failed, by kind, a second.",
    "near 0.",
    "the controller's log names each; forbidden: the chart's roles were changed.",
    "requests/s",
    (Series(rate(f.ERRORS, "reason", window=ROUNDS), "{reason}"),),
    width=6,
    axis="zero",
    thresholds=at((0.1, "watch"), (1, "bad")),
    base="good",
)
REQUESTS = Panel(
    "Requests to the API server",
    "Answered requests, by verb and status; and calls of the webhook, by outcome.",
    "GET and PATCH with 200; now and then 409.",
    "403: rights; 429: the API server throttles; webhook failed: its address.",
    "requests/s",
    (
        Series(rate(f.API_REQUESTS, "verb", "code", window=ROUNDS), "{verb} {code}"),
        Series(rate(f.WEBHOOKS, "outcome", window=ROUNDS), "webhook {outcome}"),
    ),
    width=6,
    axis="zero",
)
CONTROLLER = (LAST_ROUND, ROUND, ERRORS, REQUESTS)
