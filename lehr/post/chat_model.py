"""An instruct model elsewhere, and what it said: each reply is kept as soon as it is there, since replies cost money, and work
that was stopped asks for none again."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

from lehr.post.engine_client import EngineClient
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in

_AGAIN = "delete the attempt's folder and run the same command again"
# How templates of known models mark turns: a server may read such text in a message as the mark itself.
_MARKS = re.compile(r"<(?=[|\uff5c]|/?s>|(?:start|end)_of_turn>|[be]os>|<SYS>|/?think>)|\[(?=/?INST\])")


def quoted(value: Any) -> str:
    """A text, or plain values, as JSON in which nothing ends the quotation and no mark of a chat template stands as it is."""
    return _MARKS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(value, ensure_ascii=False))


class ChatModel:
    """A model of a server of OpenAI's chat completions. Safe to use from several threads."""

    def __init__(self, client: EngineClient, model: str) -> None:
        self.client, self.model = client, model

    def reply(self, prompt: str, max_tokens: int, temperature: float = 0.0, seed: int = 0) -> str:
        """What it says to a user's turn. Raises as EngineClient.ask does, and UserError for what is no chat completion."""
        body = {
            "model": self.model, "messages": [{"role": "user", "content": prompt}], "temperature": temperature,
            "max_tokens": max_tokens, "seed": seed,
        }  # fmt: skip
        found = self.client.ask("POST", "/v1/chat/completions", body)
        try:
            return str(found["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            what, remedy = "its reply is none of chat completions", "see the url"
            raise UserError(what, where=self.client.url, remedy=remedy) from None


class KeptRows:
    """A file of JSON lines that survives kills. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path, self._writing = path, threading.Lock()

    def read(self) -> list[dict[str, Any]]:
        """Its rows; a last line that was cut off is none, and removed. Raises UserError for a damaged one."""
        if not self.path.is_file():
            return []
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            self.path.write_bytes(whole)
        return [object_in(line, str(self.path), _AGAIN) for line in whole.splitlines()]

    def add(self, row: dict[str, Any]) -> None:
        with self._writing, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
