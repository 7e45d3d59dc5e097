"""Personal information in a text: e-mail addresses, telephone numbers, IP addresses, found as Dolma's tagger
`pii_regex_with_counts_fast_v2` finds them for OLMo 1, and masked by the special tokens that the OLMo tokenizers have.

Departures from Dolma: an address is masked without the blanks and punctuation around it (Dolma replaces those too, by one blank
each), it may end the text, and may not hold brackets or colons; a number is not cut out of a longer one. Time is linear in the
text whatever it holds: Dolma's expressions take quadratic time on long runs of letters or blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

TOKENS = {"email": "|||EMAIL_ADDRESS|||", "phone": "|||PHONE_NUMBER|||", "ip": "|||IP_ADDRESS|||"}
Span = tuple[int, int, str]  # start, end, and which of TOKENS

_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-"
_DOMAIN = re.compile(r"(?:[\w-]{1,63}+\.)+[^\W\d_]{2,63}+")
_LONGEST_DOMAIN = 255
_PHONE = re.compile(r"(?<!\S)\(?\d{3}\)?[-. ]*+\d{3}[-. ]?\d{4}(?!\d)")
_BYTE = r"(?:25[0-5]|2[0-4]\d|[01]?\d\d?)"
_IP = re.compile(rf"(?<![\d.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\d)", re.ASCII)


def find(text: str, kinds: Sequence[str]) -> list[Span]:
    """What of `kinds` (keys of TOKENS) is in the text, in its order; of two that overlap the first one."""
    found = sorted(span for kind in kinds for span in _FINDERS[kind](text))
    out, end = list[Span](), 0
    for span in found:
        if span[0] >= end:
            out.append(span)
            end = span[1]
    return out


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with each span replaced by its token."""
    parts, end = list[str](), 0
    for start, stop, kind in spans:
        parts += [text[end:start], TOKENS[kind]]
        end = stop
    return "".join([*parts, text[end:]])


def _emails(text: str) -> Iterator[Span]:
    """Around every @. Neither side of one reaches over the next @, so no character is read twice for each side."""
    before, at = 0, text.find("@")
    while at >= 0:
        left = text[before:at]
        local = left[len(left.rstrip(_LOCAL)) :].lstrip(".'")
        if local and (domain := _DOMAIN.match(text, at + 1, at + 1 + _LONGEST_DOMAIN)):
            yield at - len(local), domain.end(), "email"
        before, at = at + 1, text.find("@", at + 1)


def _matches(pattern: re.Pattern[str], kind: str) -> Callable[[str], Iterator[Span]]:
    return lambda text: ((m.start(), m.end(), kind) for m in pattern.finditer(text))


_FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "email": _emails,
    "phone": _matches(_PHONE, "phone"),
    "ip": _matches(_IP, "ip"),
}
