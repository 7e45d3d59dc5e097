"""What a server counts of its own work; the exporter's names for it: lehr.monitoring.metrics.serving."""

from __future__ import annotations

from lehr.runtime.counters import declare

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

BETWEEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # of a token, which comes sooner
ANSWERING = ("chat", "completions")  # operations: what the server is there for
ENDS = ("stop", "length", "cancelled", "error")

REQUESTS = declare("serve_requests", ("operation", "code"))
REQUEST_SECONDS = declare("serve_request_seconds", ("operation",), SECONDS)
FIRST_TOKEN_SECONDS = declare("serve_first_token_seconds", (), SECONDS)
QUEUE_SECONDS = declare("serve_queue_seconds", (), SECONDS)
TOKEN_SECONDS = declare("serve_token_seconds", (), BETWEEN_SECONDS)
ANSWERS = declare("serve_answers", ("reason",))
PROMPT_TOKENS = declare("serve_prompt_tokens", ())
TOKENS = declare("serve_tokens", ())
LOADS = declare("serve_weight_loads", ("outcome",))
DROPPED = declare("serve_connections_dropped", ())


def begin() -> None:
    """Have the counters stand at 0: one that only appears with its first failure has grown by nothing in Prometheus' eyes."""
    for operation in ANSWERING:
        for code in ("200", "429", "500", "503"):
            REQUESTS.add(0.0, operation=operation, code=code)
    for reason in ENDS:
        ANSWERS.add(0.0, reason=reason)
    for count in (TOKENS, PROMPT_TOKENS, DROPPED):
        count.add(0.0)
