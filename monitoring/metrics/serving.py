"""The metrics of `lehr serve`: what a server of a model serves of itself. One process has them, and no run."""

from __future__ import annotations

from lehr.monitoring.metrics.metric import PREFIX, Metric

BETWEEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
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
QUEUE_SECONDS = Metric(
    f"{PREFIX}serve_queue_seconds",
    "histogram",
    "Time for which an answer waited for a row.",
    (),
    SECONDS,
    counted="serve_queue_seconds",
)
TOKEN_SECONDS = Metric(
    f"{PREFIX}serve_token_seconds",
    "histogram",
    "Time from one token of an answer to its next.",
    (),
    BETWEEN_SECONDS,
    counted="serve_token_seconds",
)
ANSWERS = Metric(
    f"{PREFIX}serve_answers_total",
    "counter",
    "Answers that ended, by how: stop, length, cancelled (the client hung up) or error.",
    ("reason",),
    counted="serve_answers",
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
STARTED = Metric(f"{PREFIX}serve_started_timestamp_seconds", "gauge", "Unix time at which the server began.", ())
RUNNING = Metric(f"{PREFIX}serve_answers_running", "gauge", "Answers that have a row: decoded, or their prompts read.", ())
ROWS = Metric(f"{PREFIX}serve_rows", "gauge", "Answers that can be decoded at once.", ())
WAITING = Metric(f"{PREFIX}serve_answers_waiting", "gauge", "Answers that wait for a row.", ())
WAITING_LIMIT = Metric(f"{PREFIX}serve_answers_waiting_limit", "gauge", "Answers that may wait for a row.", ())
CONNECTIONS = Metric(f"{PREFIX}serve_connections", "gauge", "Connections that are open; each has one request at a time.", ())
CONNECTIONS_LIMIT = Metric(
    f"{PREFIX}serve_connections_limit", "gauge", "Connections that may ask for answers; more are told to come again (429).", ()
)
DROPPED = Metric(
    f"{PREFIX}serve_connections_dropped_total",
    "counter",
    "Connections closed without a word: even those for scrapers and probes were taken.",
    (),
    counted="serve_connections_dropped",
)
CACHED_TOKENS = Metric(
    f"{PREFIX}serve_cached_tokens", "gauge", "Tokens of prompts and answers whose keys and values are held.", ()
)
CACHE = Metric(f"{PREFIX}serve_cache_bytes", "gauge", "Memory that is allocated for keys and values; it grows and is kept.", ())

SERVING_METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
