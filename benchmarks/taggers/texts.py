"""Documents for verdicts: pieces of the shipped text, and the same with what each rule is there to find put in."""

from __future__ import annotations

import pydoc
import re
import string
from collections.abc import Callable, Iterator
from itertools import islice

from benchmarks import corpus
from lehr.data.document import Document

NAMES = ("factbook", "bible", "plays", "novel", "speeches", "code")
PIECE = 3000  # characters
EVERY = 12  # of the pieces, one; of those again one is damaged in every way
_MODULES = ("colorsys", "string", "bisect", "keyword", "textwrap", "calendar")


def documents() -> list[Document]:
    """With `path` and `max_stars_count` in the metadata of code."""
    whole = list(islice(_pieces(), 0, None, EVERY))
    damaged = [
        Document(f"{document.id}+{name}", document.source, damage(document.text), document.parent, metadata=document.metadata)
        for document in whole[::EVERY]
        for name, damage in DAMAGES.items()
    ]
    return [*whole, *damaged, *_pages()]


def _pieces() -> Iterator[Document]:
    for document in corpus.texts(1 << 40, NAMES):
        code = {"path": f"{document.id}.py", "max_stars_count": len(document.text) % 5} if document.source == "code" else {}
        for start in range(0, len(document.text), PIECE):
            text = document.text[start : start + PIECE]
            if text.strip():
                yield Document(f"{document.id}@{start}", document.source, text, document.parent, metadata=code)


def _pages() -> Iterator[Document]:
    """HTML of pydoc's, as it is and with a great deal of markup to little text."""
    for name in _MODULES:
        page = pydoc.html.page(name, pydoc.html.document(__import__(name), name))
        for kind, text in (("", page), ("+marked", page.replace("<br>", '<br class="a-very-long-name-of-a-class">' * 9))):
            yield Document(f"{name}.html{kind}", "pages", text, name, metadata={"path": f"{name}.html", "max_stars_count": 3})


def _lines(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "\n".join(change(line) for line in text.split("\n") if line.strip())


def _words(change: Callable[[int, str], str]) -> Callable[[str], str]:
    return lambda text: " ".join(change(number, word) for number, word in enumerate(text.split()))


_STOP = re.compile(r"\b(the|be|to|of|and|that|have|with)\b", re.IGNORECASE)
DAMAGES: dict[str, Callable[[str], str]] = {
    "short": lambda text: " ".join(text.split()[:30]),
    "long words": _words(lambda number, word: word * 3),
    "short words": _words(lambda number, word: word[:2]),
    "hashes": _words(lambda number, word: "#" + word if number % 5 == 0 else word),
    "dots": _words(lambda number, word: word + "..." if number % 5 == 0 else word),
    "ellipses": _words(lambda number, word: word + "…" if number % 5 == 0 else word),
    "hyphens": _lines(lambda line: f"- {line.strip()}"),
    "bullets": _lines(lambda line: f"• {line.strip()}"),
    "stars": _lines(lambda line: f"* {line.strip()}"),
    "dotted lines": _lines(lambda line: f"{line.rstrip('.')}..."),
    "cut lines": _lines(lambda line: f"{line.rstrip('.')}…"),
    "numbers": _words(lambda number, word: str(number) if number % 3 == 0 else word),
    "rules": _words(lambda number, word: "---" if number % 4 == 0 else word),
    "no stop words": lambda text: _STOP.sub("blue", text),
    "capitals": str.upper,
    "lines twice": _lines(lambda line: f"{line}\n{line}"),
    "every other line twice": lambda text: "\n".join(f"{a}\n{a}" if n % 2 else a for n, a in enumerate(text.split("\n"))),
    "lines thrice": _lines(lambda line: f"{line}\n{line}\n{line}"),
    "paragraph twice": lambda text: f"{text}\n\n{text[:900]}\n\n{text[:900]}",
    "phrase": lambda text: text[:1500] + " the best offer of the year" * 20,
    "chorus": lambda text: f"{text[:700]} {text[300:700]} {text[300:700]}",
    "stutter": lambda text: text[:1500] + " buy now" * 40,
    "stutter of 31": lambda text: text[:1500] + " buy now" * 31,
    "lorem ipsum": lambda text: text[:500] + " Lorem ipsum dolor sit amet. " + text[500:],
    "bracket": lambda text: text[:500] + " function () { return; } " + text[500:],
    "javascript": lambda text: text[:500] + "\nPlease turn Javascript on.\n" + text[500:],
    "addresses": lambda text: text[:900] + "".join(f"\nWrite to {c}.doe@example.org. " for c in string.ascii_letters[:7]),
    "telephones": lambda text: text[:900] + "".join(f"\nCall (415) 555-01{n:02d} today. " for n in range(7)),
    "computers": lambda text: text[:900] + "".join(f"\nPing 192.168.{n}.1 first. " for n in range(7)),
    "xml": lambda text: '<?xml version="1.0"?>\n' + text,
    "one word": lambda text: text[:300] + " self" * 200,
    "two words": lambda text: text[:300] + " self import" * 90,
    "digits": lambda text: text[:300] + " 0123456789" * 200,
    "long line": lambda text: text.replace("\n", " "),
}  # fmt: skip
