"""Rule filters against datatrove's: verdict by verdict on the shipped text, and the time for Gopher's quality and repetition.

`python -m benchmarks.filters --no-page`. datatrove finds words with spaCy, which makes words of punctuation; ours are what
blanks separate, as in dolma, which made OLMo's data. So verdicts are compared twice: with the peer given our words and
sentences, where the rules themselves must agree, and with its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from benchmarks import corpus
from benchmarks.common import LEHR, Record, compared, in_turns, installed, main
from lehr.config.filters import FilterConfig
from lehr.config.filters.quality import C4Filter, FineWebFilter, GopherQualityFilter, GopherRepetitionFilter
from lehr.data.document import Document
from lehr.data.filters import filters
from lehr.data.sentences import split
from lehr.data.text import text_of
from lehr.data.verdict import Drop

EVERY = 1_000_000_000  # characters: all that is shipped
TIMED = 3_000_000
NAMES = ("factbook", "bible", "plays", "novel", "speeches", "code")
_MODULES = ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter", "c4_filters")
OURS: dict[str, FilterConfig] = {
    "gopher_quality": GopherQualityFilter(text_types=[]),
    "gopher_repetition": GopherRepetitionFilter(text_types=[]),
    "fineweb": FineWebFilter(text_types=[]),
    "c4": C4Filter(text_types=[]),
}


def peers() -> dict[str, Any]:
    """datatrove's filters, by the names of ours. Raises ImportError without it."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "fineweb": FineWebQualityFilter(),
        "c4": C4QualityFilter(),
    }


@contextmanager
def our_words() -> Iterator[None]:
    """datatrove with our words and sentences."""
    from importlib import import_module

    modules = [import_module(f"datatrove.pipeline.filters.{name}") for name in _MODULES]
    kept = [
        (m, name, getattr(m, name))
        for m in modules
        for name in ("split_into_words", "split_into_sentences")
        if hasattr(m, name)
    ]
    for module, name, _ in kept:
        setattr(module, name, _words if name == "split_into_words" else _sentences)
    try:
        yield
    finally:
        for module, name, own in kept:
            setattr(module, name, own)


def _words(text: str, language: str = "") -> list[str]:
    return text_of(text).words


def _sentences(text: str, language: str = "") -> list[str]:
    return split(text)


def differing(documents: Sequence[Document], theirs: Mapping[str, Any]) -> dict[str, Counter[tuple[str, str]]]:
    """By filter: how often our reason and the peer's stand where one of us keeps what the other drops, or leaves another text.
    A reason is "" for a kept document."""
    from datatrove.data import Document as Theirs

    ours = {name: filters({name: config}) for name, config in OURS.items()}
    found: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in ours}
    for document in documents:
        for name, judge in ours.items():
            mine, other = judge(document), Theirs(text=document.text, id=document.id)
            said = theirs[name].filter(other)
            reason = "" if said is True else str(said[1])
            own = mine.reason if isinstance(mine, Drop) else ""
            if bool(own) != bool(reason):
                found[name][own, reason] += 1
            elif not own and not isinstance(mine, Drop) and (mine.changed or document).text != other.text:
                found[name]["another text", "another text"] += 1
    return found


def _ours(documents: Sequence[Document]) -> Callable[[], object]:
    judge = filters({name: OURS[name] for name in ("gopher_repetition", "gopher_quality")})
    return lambda: sum(isinstance(judge(d), Drop) for d in documents)


def _theirs(documents: Sequence[Document]) -> Callable[[], object]:
    from datatrove.data import Document as Theirs

    found = peers()
    steps = [found["gopher_repetition"], found["gopher_quality"]]
    return lambda: sum(not all(step.filter(Theirs(text=d.text, id=d.id)) is True for step in steps) for d in documents)


def speed() -> list[Record]:
    """Gopher's repetition and quality rules on the same documents, MB of text a CPU second, each until it is dropped."""
    documents = [replace(d, language="en") for d in corpus.texts(TIMED)]  # datatrove is told that too
    contestants = {LEHR: _ours(documents), **installed({"datatrove": lambda: _theirs(documents)})}
    found = in_turns(contestants, turns=3, warm=1, clock=time.process_time)
    size = sum(len(d.text.encode()) for d in documents) / 1e6
    mine = size / found.pop(LEHR)
    return [
        compared("filters", "Gopher quality and repetition", mine, size / s, name, "MB/CPU s", target=10)
        for name, s in found.items()
    ]


def verdicts(documents: Sequence[Document]) -> None:
    """Print what differs."""
    theirs = peers()
    with our_words():
        same = differing(documents, theirs)
    own = differing(documents, theirs)
    for name in OURS:
        print(
            f"{name}: of {len(documents):,} documents {same[name].total()} verdicts differ with our words: {dict(same[name])}"
        )
        print(f"{name}: of {len(documents):,} documents {own[name].total()} verdicts differ with its own: {dict(own[name])}")


def run() -> list[Record]:
    """Verdicts and speed of the rule filters against datatrove's."""
    installed({"datatrove's verdicts": lambda: verdicts(corpus.texts(EVERY, NAMES))})
    return speed()


if __name__ == "__main__":
    raise SystemExit(main("filters", run))
