"""The other rule filters: each rule at its threshold, counted by hand."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from lehr.config.data import Data
from lehr.config.filters import FilterConfig
from lehr.config.filters.origin import AntivirusFilter, StackExchangeFilter, UrlBlocklistFilter
from lehr.config.filters.quality import C4Filter, FineWebFilter
from lehr.config.filters.repositories import GraniteCodeFilter, StarcoderFilter
from lehr.config.filters.text import LineLengthFilter, RepeatedNgramFilter, WordsFilter
from lehr.data.document import Document
from lehr.data.filters import filters
from lehr.data.verdict import Drop, Keep
from lehr.runtime.errors import UserError

LINE = "The ship was in the harbour for a week."


def _judged(config: FilterConfig, text: str, **fields: Any) -> Keep | Drop:
    return filters({config.kind: config})(
        Document(fields.pop("id", "d"), "s", text, text_type=fields.pop("text_type", "prose"), **fields)
    )


def _reason(config: FilterConfig, text: str, **fields: Any) -> str | None:
    verdict = _judged(config, text, **fields)
    return verdict.reason if isinstance(verdict, Drop) else None


def test_words() -> None:
    config = WordsFilter(at_least=3, at_most=4)
    assert [_reason(config, "a " * n) for n in (2, 3, 4, 5)] == ["too few words", None, None, "too many words"]
    assert _judged(config, "一二三四五六").scores == {"words": 3.0}  # two characters are one word
    assert _reason(WordsFilter(at_least=None), " \n") == "too few words"  # nothing can be trained on it


def test_line_length_is_asked_of_code_alone() -> None:
    text = "x = 1\n" + "y" * 1001
    assert _reason(LineLengthFilter(), text, text_type="code") == "line too long"
    assert _reason(LineLengthFilter(), text) is None
    assert _reason(LineLengthFilter(), text[:-1], text_type="code") is None


def test_a_filter_looks_at_its_sources_alone() -> None:
    config = WordsFilter(at_least=9, sources=["web"])
    judge = filters({"words": config})
    assert isinstance(judge(Document("d", "web", "few words")), Drop) and isinstance(judge(Document("d", "other", "few")), Keep)


def test_c4_takes_lines_out() -> None:
    text = "\n".join(
        [LINE] * 5 + ["Menu", "An unfinished line", "And so on...", "Enable Javascript to read this.", "Two words."]
    )
    text += "\nWe have a privacy policy here.\nIt was so.[12]\n" + "x" * 1001 + " is a word."
    kept = _judged(C4Filter(), text)
    assert isinstance(kept, Keep) and kept.changed is not None
    assert kept.changed.text == "\n".join([LINE] * 5 + ["It was so."])
    assert kept.scores == {"c4.lines": pytest.approx(6 / 13), "c4.sentences": 6}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join([LINE] * 5), None),
        ("\n".join([LINE] * 4), "too few sentences"),
        (f"{LINE} {LINE} {LINE} {LINE} {LINE}", None),
        ("\n".join([LINE] * 5 + ["It says lorem ipsum here."]), "lorem ipsum"),
        ("\n".join([LINE] * 5 + ["It is {this} here."]), "curly bracket"),
        ("船は港に一週間とまっていました。\n" * 5, None),
        ("", "too few sentences"),
    ],
)
def test_c4_drops_documents(text: str, reason: str | None) -> None:
    assert _reason(C4Filter(), text) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((LINE[:-1] + "\n") * 22 + (LINE + "\n") * 3, None),
        ((LINE[:-1] + "\n") * 23 + (LINE + "\n") * 3, "too few lines end in a terminal mark"),
        ("short.\n" * 2 + LINE, None),
        ("short.\n" * 21 + (LINE + "\n") * 10, "too many short lines"),
        (" \n ", "too few words"),
    ],
)
def test_fineweb(text: str, reason: str | None) -> None:
    config = FineWebFilter(max_duplicate_line_characters=None, max_newlines=None)
    assert _reason(config, text) == reason


def test_fineweb_counts_repeated_lines_and_lines_to_a_word() -> None:
    verdict = _judged(FineWebFilter(), f"{LINE}\n{LINE}\nIt was so, and so it was told.")
    assert isinstance(verdict, Drop) and verdict.reason == "duplicate lines"
    assert verdict.scores["fineweb.duplicate_line_characters"] == pytest.approx(39 / (39 + 39 + 30))
    assert verdict.scores["fineweb.newlines"] == pytest.approx(2 / (9 + 9 + 8))
    other = FineWebFilter(max_short_lines=None, max_duplicate_line_characters=None)
    assert _reason(other, "one word.\n" * 7) == "too many lines for its words"


def test_repeated_ngrams_of_words_and_of_tokens(tmp_path: Path) -> None:
    assert _reason(RepeatedNgramFilter(), "so it " * 31 + "was") is None
    verdict = _judged(RepeatedNgramFilter(), "so it " * 32 + "was")
    assert verdict == Drop("repeated n-gram", {"repeated_ngram.repeats": 32.0})
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        config = RepeatedNgramFilter(unit="tokens", tokenizer=str(path))
        assert _reason(config, "ab" * 32) == "repeated n-gram" and _reason(config, "ab" * 31) is None
    assert _reason(RepeatedNgramFilter(), "ab" * 32) is None  # one word
    with pytest.raises(UserError, match=r"there is no tokenizer\.json"):
        filters({"it": RepeatedNgramFilter(unit="tokens", tokenizer=str(tmp_path / "nowhere"))})


@pytest.mark.parametrize(
    ("text", "fields", "reason"),
    [
        ("abc 45678901", {}, None),  # 3 of 12 characters
        ("abc 456789012", {}, "too few letters"),
        (" " * 87 + "<?xml version= abc" * 9, {}, None),
        (" " * 86 + "<?xml version= abc" * 9, {}, "XML"),
        ("<?xml version='1.0'?><a>some text</a>", {}, "XML"),
        ("<html><head><title>no</title></head><body>" + "seen " * 20 + "</body>", {"id": "a.html"}, "too little visible text"),
        ("<p>" + "seen " * 21 + "</p><script>never</script>", {"id": "a.HTM"}, None),
        ("<p>" + "seen " * 21 + "</p><style>" + "n" * 500, {"metadata": {"path": "a.html"}}, "too little visible text"),
        ("a" * 49, {"metadata": {"language": "JSON"}}, "data too short"),
        ("a" * 50, {"metadata": {"language": "JSON"}}, None),
        ("a" * 5001, {"url": "https://example.org/a.yml?raw=1"}, "data too long"),
        ("a" * 5001, {"metadata": {"language": "Python", "path": "a.json"}}, None),
    ],
)  # fmt: skip
def test_granite_code(text: str, fields: dict[str, Any], reason: str | None) -> None:
    assert _reason(GraniteCodeFilter(), text, text_type="code", **fields) == reason


def test_granite_code_measures_lines_where_it_is_asked() -> None:
    text = "ab\n" + "c" * 21
    scores = _judged(GraniteCodeFilter(), text, text_type="code").scores
    assert (scores["granite_code.mean_line"], scores["granite_code.longest_line"]) == (11.5, 21)
    assert _reason(GraniteCodeFilter(max_mean_line=11.0), text, text_type="code") == "lines too long"
    assert _reason(GraniteCodeFilter(max_longest_line=20), text, text_type="code") == "line too long"


@pytest.mark.parametrize(
    ("text", "stars", "reason"),
    [
        ("a b c d e", 2, None),
        ("a b c d e", "7", None),
        ("a b c d e", 1, "too few stars"),
        ("a b c d e", None, "stars not given"),
        ("a b c d e", "many", "stars not given"),
        ("a a a b c d e f g h", 2, None),
        ("a a a b c d e f g", 2, "one word too often"),
        ("a a a b b b c d e f g", 2, "two words too often"),
    ],
)
def test_starcoder(text: str, stars: Any, reason: str | None) -> None:
    assert _reason(StarcoderFilter(), text, text_type="code", metadata={"max_stars_count": stars}) == reason


@pytest.mark.parametrize(
    ("question", "answer", "accepted", "reason"),
    [
        (3, 5, True, None),
        (2, 5, True, "too few votes for the question"),
        (3, 4, True, "too few votes for the answer"),
        (3, 5, False, "no accepted answer"),
        (3, 5, None, "no accepted answer"),
        (3, None, True, "votes not given"),
    ],
)
def test_stackexchange(question: int, answer: int | None, accepted: bool | None, reason: str | None) -> None:
    said = {"question_votes": question, "answer_votes": answer, "accepted_answer": accepted}
    assert _reason(StackExchangeFilter(), "text", metadata=said) == reason


@pytest.mark.parametrize("packed", [False, True])
def test_urls_by_domain_and_by_path(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("list.gz" if packed else "list.txt")
    listed = b"# bad ones\nbad.example\n0.0.0.0 ads.example.org\nhttps://www.mixed.example/adult/  # a folder\n"
    listed += "bücher.example\n\n".encode()
    path.write_bytes(gzip.compress(listed) if packed else listed)
    judge = filters({"url_blocklist": UrlBlocklistFilter(file=str(path))})
    dropped = (
        "http://bad.example", "https://www.bad.example:8080/x?y", "http://deep.in.bad.example/a", "BAD.EXAMPLE/x",
        "https://ads.example.org./a", "http://mixed.example/adult/page.html", "http://xn--bcher-kva.example/",
    )  # fmt: skip
    kept = (
        "",
        "http://notbad.example",
        "http://example.org",
        "http://mixed.example/adults",
        "http://bad.example.com",
        "http://[",
    )
    for url, drops in (*((u, True) for u in dropped), *((u, False) for u in kept)):
        assert isinstance(judge(Document("d", "s", "text", url=url)), Drop) == drops, url


@pytest.mark.parametrize(
    ("content", "most", "says"),
    [
        (b"one.example\ntwo.example\n", 1, "more than 1 entries"),
        (b"# nothing\n", 9, "without entries"),
        (b"fine.example\ntwo words here\n", 9, "list.txt:2: this line is neither"),
        (b"\xff\xfe\n", 9, "list.txt:1: this line is neither"),
        (b"x" * 70_000, 9, "a line of more than"),
    ],
)
def test_a_block_list_that_cannot_be_read_is_refused(content: bytes, most: int, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        filters({"it": UrlBlocklistFilter(file=str(tmp_path / "list.txt"), most_entries=most)})
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_without_clamav_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="clamdscan is not installed"):
        filters({"antivirus": AntivirusFilter()})


def test_a_name_is_a_kind_unless_it_says_another_and_null_removes() -> None:
    said = {
        "sources": {"web": {"kind": "jsonl", "path": "web.jsonl", "license": "CC0-1.0"}},
        "filters": {"words": {"at_least": 9}, "language": None, "again": {"kind": "words", "at_most": 99}},
        "mixes": {"m": {"weights": {"web": 1.0}}},
    }
    data = Data.model_validate(said)
    assert data.filters == {"words": WordsFilter(at_least=9), "again": WordsFilter(at_most=99)}
    assert Data.model_validate_json(json.dumps(data.model_dump(mode="json"))) == data


def test_scores_of_two_filters_of_a_kind_are_both_kept() -> None:
    judge = filters({"words": WordsFilter(at_least=1), "long": WordsFilter(at_least=3)})
    verdict = judge(Document("d", "s", "one two"))
    assert isinstance(verdict, Drop) and verdict.scores == {"words": 2.0, "long": 2.0}


def test_stars_and_votes_that_are_not_given_pass_where_the_recipe_says_so() -> None:
    starcoder, exchange = StarcoderFilter(missing="keep"), StackExchangeFilter(missing="keep")
    assert isinstance(_judged(starcoder, "def f(x): return x", text_type="code"), Keep)
    assert isinstance(_judged(exchange, "a question"), Keep)
    assert isinstance(_judged(exchange, "a question", metadata={"question_votes": 2}), Drop)
    assert isinstance(_judged(exchange, "a question", metadata={"accepted_answer": False}), Drop)


@pytest.mark.skipif(shutil.which("clamscan") is None, reason="ClamAV (package clamav) is not installed")
def test_clamav_finds_the_test_signature(tmp_path: Path) -> None:
    """ClamAV itself, with a database of one signature: its own may not be here."""
    eicar = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    database = tmp_path / "own.ndb"
    database.write_text(f"Eicar-Own:0:*:{eicar.encode().hex()}\n")
    config = AntivirusFilter(command="clamscan", database=str(database))
    assert _judged(config, f"print('x')\n{eicar}\n", text_type="code") == Drop("malware")
    assert isinstance(_judged(config, "print('x')\n", text_type="code"), Keep)
    database.write_text("no signature\n")
    with pytest.raises(UserError, match="documents cannot be scanned for malware"):
        filters({"antivirus": config})
