"""From tokens that come one by one to text that can be shown: whole characters, and nothing from a stop string on."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.data.tokenizer import Tokenizer

_PARTIAL = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 4  # bytes, and so tokens at most


class TextStream:
    """The text of one answer. `add` and `end` return what can be shown now; `stopped`: a stop string was found, which is not
    shown, and neither is anything after it."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._from = self._to = 0  # of the ids whose text is known, the last few: a token's text can depend on the one before
        self._held = ""  # text that may be the beginning of a stop string
        self.stopped = False

    def add(self, token: int) -> str:
        """One more token."""
        self._ids.append(token)
        return self._shown(self._new(whole=False), last=False)

    def end(self) -> str:
        """There is no further token."""
        return self._shown(self._new(whole=True), last=True)

    def _new(self, whole: bool) -> str:
        known = self._tokenizer.decode(self._ids[self._from : self._to])
        text = self._tokenizer.decode(self._ids[self._from :])
        waits = text.endswith(_PARTIAL) and len(self._ids) - self._to < _LONGEST_CHARACTER
        if len(text) <= len(known) or (waits and not whole):
            return ""
        self._from, self._to = self._to, len(self._ids)
        return text[len(known) :]

    def _shown(self, new: str, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = 0 if last else max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _begun(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
