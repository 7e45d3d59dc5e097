"""The metrics of `lehr serve`: what a server of a model serves of itself. One process has them, and no run."""

from __future__ import annotations

from lehr.monitoring.metrics.metric import PREFIX, Metric

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BY_OPERATION = ("operation",)

REQUESTS = Metric(
    f"{PREFIX}serve_requests_total",
    "counter",
    "Requests, by the HTTP status of the answer; 499: the client hung up.",
    ("operation", "code"),
    counted="serve_requests",
)
REQUEST_SECONDS = Metric(
    f"{PREFIX}serve_request_seconds",
    "histogram",
    "Time of a request, from its head to the end of the answer.",
    BY_OPERATION,
    SECONDS,
    counted="serve_request_seconds",
    bound=3,  # what is asked with POST
)
FIRST_TOKEN_SECONDS = Metric(
    f"{PREFIX}serve_first_token_seconds",
    "histogram",
    "Time from a request to the first token of an answer, waiting for a row included.",
    (),
    SECONDS,
    counted="serve_first_token_seconds",
)
PROMPT_TOKENS = Metric(
    f"{PREFIX}serve_prompt_tokens_total", "counter", "Tokens of prompts that were read.", (), counted="serve_prompt_tokens"
)
TOKENS = Metric(f"{PREFIX}serve_tokens_total", "counter", "Tokens of answers that were decoded.", (), counted="serve_tokens")
LOADS = Metric(
    f"{PREFIX}serve_weight_loads_total",
    "counter",
    "Times that weights were handed over, by whether they were taken.",
    ("outcome",),
    counted="serve_weight_loads",
)
RUNNING = Metric(f"{PREFIX}serve_answers_running", "gauge", "Answers that are decoded now.", ())
WAITING = Metric(f"{PREFIX}serve_answers_waiting", "gauge", "Answers that wait for a row.", ())
ROWS = Metric(f"{PREFIX}serve_rows", "gauge", "Answers that can be decoded at once.", ())

SERVING_METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
