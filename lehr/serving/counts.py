"""What a server counts of its own work; the exporter's names for it: lehr.monitoring.metrics.serving."""

from __future__ import annotations

from lehr.runtime.counters import declare

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

REQUESTS = declare("serve_requests", ("operation", "code"))
REQUEST_SECONDS = declare("serve_request_seconds", ("operation",), SECONDS)
FIRST_TOKEN_SECONDS = declare("serve_first_token_seconds", (), SECONDS)
PROMPT_TOKENS = declare("serve_prompt_tokens", ())
TOKENS = declare("serve_tokens", ())
LOADS = declare("serve_weight_loads", ("outcome",))
