"""Models small enough to check by hand: bytes for tokens, tables for weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Scored = tuple[float, int, bool]


class ByteTokenizer:
    """Token 5 + b is the byte b; 0 to 4 are special."""

    eos_id, pad_id = range(2)
    special_names = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
    special_ids: Mapping[str, int] = {name: i for i, name in enumerate(special_names)}
    template_tokens: Mapping[str, str] = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    chat_template = ""

    def role_id(self, role: str) -> int:
        return {"system": 2, "user": 3, "assistant": 4}[role]

    def encode(self, text: str) -> list[int]:
        return [5 + b for b in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i - 5 for i in ids if i >= 5).decode(errors="replace")


class PairTokenizer(ByteTokenizer):
    """Bytes, but ":" and a following space are one token: a boundary that splits a token."""

    def encode(self, text: str) -> list[int]:
        ids = super().encode(text)
        out: list[int] = []
        for i in ids:
            if out and out[-1] == 5 + ord(":") and i == 5 + ord(" "):
                out[-1] = 261
            else:
                out.append(i)
        return out


class TableModel:
    """`probability(context ids, next id)` is the model; `answer(prompt text, temperature)` is what it generates."""

    def __init__(
        self,
        probability: Callable[[Sequence[int], int], float],
        answer: Callable[[str, float], str] = lambda prompt, temperature: "",
        tokenizer: ByteTokenizer | None = None,
        max_length: int = 64,
    ) -> None:
        self.probability, self.answer, self.max_length = probability, answer, max_length
        self.tokenizer = tokenizer or ByteTokenizer()
        self.requests: list[tuple[list[int], list[int]]] = []

    def logprobs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], /) -> list[Scored]:
        found: list[Scored] = []
        for context, continuation in pairs:
            self.requests.append((list(context), list(continuation)))
            ids, total = list(context), 0.0
            for token in continuation:
                total += math.log(self.probability(ids, token))
                ids.append(token)
            found.append((total, len(continuation), False))
        return found

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int], temperature: float, seed: int
    ) -> list[list[int]]:
        found = []
        for prompt in prompts:
            ids = self.tokenizer.encode(self.answer(self.tokenizer.decode(prompt), temperature))
            text = [self.tokenizer.eos_id if i == 5 + ord("$") else i for i in ids][:max_new_tokens]
            stop = next((k for k, i in enumerate(text) if i in stop_ids), len(text))
            found.append(text[: stop + 1])
        return found
