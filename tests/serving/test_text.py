"""Text out of single tokens: whole characters, and nothing from a stop string on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lehr.serving.text import TextStream
from tests.serving.served import TOKENIZER

WORDS = st.text(st.sampled_from("ab 東京größe\N{GRINNING FACE}\n"), max_size=30)


@given(WORDS)
def test_the_pieces_are_the_text(text: str) -> None:
    stream = TextStream(TOKENIZER)
    pieces = [*(stream.add(token) for token in TOKENIZER.encode(text)), stream.end()]
    assert "".join(pieces) == text and not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=30))
def test_any_tokens_at_all_end_as_they_decode(ids: list[int]) -> None:
    """Bytes that are no UTF-8 become marks, and are held back no longer than a character's other bytes could take."""
    stream = TextStream(TOKENIZER)
    text = "".join(stream.add(token) for token in ids) + stream.end()
    marks = "\N{REPLACEMENT CHARACTER}"
    assert text.replace(marks, "") == TOKENIZER.decode(ids).replace(marks, "")


@given(WORDS, st.lists(st.text(st.sampled_from("ab 東"), min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_string_is_ever_shown(text: str, stops: list[str]) -> None:
    stream = TextStream(TOKENIZER, stops)
    shown = ""
    for token in TOKENIZER.encode(text):
        shown += stream.add(token)
        if stream.stopped:
            break
    shown += stream.end()
    first = min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))
    assert stream.stopped == any(stop in text for stop in stops)
    assert text.startswith(shown) and not any(stop in shown for stop in stops)
    if not stream.stopped or len(stops) == 1:
        assert shown == text[:first]
