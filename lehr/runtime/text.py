"""Texts of users and documents: for display, where control characters are made visible and have no effect, and compared."""

from __future__ import annotations

import json
import re

_HIDDEN = (0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
_VISIBLE = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | dict.fromkeys(_HIDDEN, "\ufffd")
_VISIBLE[0x7F] = "\u2421"
_IN_JSON = {code: f"\\u{code:04x}" for code in _HIDDEN}
_MARKS = re.compile(r"[\\`*\[\]<>&|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]*")


def visible(text: str) -> str:
    """Replace every character that controls a terminal or the reading direction by a visible one; tabs and newlines stay."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def json_line(value: object) -> str:
    """JSON with non-ASCII letters as they are, but without characters that control a terminal."""
    return json.dumps(value, ensure_ascii=False).translate(_IN_JSON)


def markdown(text: str) -> str:
    """Text escaped so that Markdown shows it as it is, in one line, also in a table's cell."""
    marked = _MARKS.sub(lambda found: {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}"), visible(text))
    return " ".join(marked.split())


def markdown_code(text: str) -> str:
    """A name or a hash as a code span; as escaped text if a span cannot hold it."""
    return f"`{text}`" if _PLAIN.fullmatch(text) else markdown(text)


def fenced(text: str, language: str = "") -> str:
    """A code block, whatever the text contains."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def mentions(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words, in any case; white space of any length is one blank."""
    said, sought = (" ".join(part.casefold().split()) for part in (text, phrase))
    return re.search(rf"(?<!\w){re.escape(sought)}(?!\w)", said) is not None
