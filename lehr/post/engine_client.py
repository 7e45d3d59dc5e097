"""JSON over HTTP to an engine, a judge or a classifier: what may pass is tried again, what cannot is somebody's error."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lehr.runtime.errors import InfraError, UserError
from lehr.runtime.text import visible

TOKEN = "LEHR_SAMPLER_TOKEN"
ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds between attempts, doubled each time: about 16 in all
_MAX_BYTES = 64 * 2**20  # of an answer
_PASSING = frozenset({408, 425, 429, 499})  # of 4xx; every 5xx may pass


@dataclass(frozen=True)
class Called:
    """What a server is and the key that names it, in words, and the environment variable of the token that it asks for."""

    what: str
    key: str
    token: str


ENGINE = Called("the engine", "the step's `sampler`", TOKEN)


class EngineClient:
    """Requests to the server at `url` (scheme, host, port). Safe to use from several threads; each request has a connection of
    its own, and no proxy is asked."""

    def __init__(
        self,
        url: str,
        timeout: float,
        wait: Callable[[float], None] = time.sleep,
        *,
        called: Called = ENGINE,
        attempts: int = ATTEMPTS,
    ) -> None:
        """A request is tried `attempts` times."""
        self.url, self._timeout, self._wait, self._called = url, timeout, wait, called
        self._attempts = attempts
        self._split = urlsplit(url)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON, or None for an empty one. Raises InfraError where the server cannot be reached or fails as
        often as it is asked, UserError for a request that it refuses and for an answer that is no JSON."""
        last = ""
        for attempt in range(self._attempts):
            if attempt:
                self._wait(min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_WAIT))
            try:
                status, raw = self._once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                last = f"{type(error).__name__}: {error}"
                continue
            if status < 300:
                return self._json(path, raw)
            last = f"status {status}: {_words(raw)}"
            if status < 500 and status not in _PASSING:
                raise UserError(
                    f"{self._called.what} refuses {path} ({last})",
                    where=self.url,
                    remedy=f"see {self._called.key}, how the server was started, and {self._called.token}",
                )
        raise InfraError(f"{self.url}{path}: {self._called.what} did not answer {self._attempts} requests; the last: {last}")

    def first_model(self) -> str | None:
        """The first that the server names, None if it names none. Raises as `ask` does."""
        found = self.ask("GET", "/v1/models")
        try:
            return str(found["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            return None

    def _once(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._split.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._split.hostname or "", self._split.port, timeout=self._timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token := os.environ.get(self._called.token):
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            raw = response.read(_MAX_BYTES + 1)
            if len(raw) > _MAX_BYTES:
                raise http.client.HTTPException(f"the answer has more than {_MAX_BYTES} bytes")
            return response.status, raw
        finally:
            connection.close()

    def _json(self, path: str, raw: bytes) -> Any:
        try:
            return json.loads(raw) if raw.strip() else None
        except (ValueError, RecursionError):
            raise UserError(
                f"{path} is answered with something else than JSON",
                where=self.url,
                remedy=f"see whether that is the address of {self._called.what}",
            ) from None


def _words(raw: bytes) -> str:
    """What an error's body says, as one line of plain text."""
    text = raw[:4000].decode("utf-8", "replace")
    with suppress(ValueError, KeyError, TypeError, RecursionError):  # a body of another form is shown as it stands
        found = json.loads(text)
        text = str(found["error"]["message"] if isinstance(found["error"], dict) else found["error"])
    return visible(" ".join(text.split()))[:300]
