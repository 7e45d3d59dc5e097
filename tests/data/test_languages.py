"""The language filter: a paragraph passes where its language is kept, and only there; random letters pass nowhere."""

from __future__ import annotations

import html
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from lehr.config import load_recipe
from lehr.config.filters.text import LanguageFilter
from lehr.data.document import Document
from lehr.data.filters import filters
from lehr.data.identify import identify
from lehr.data.languages import DIALECTS
from lehr.data.text import text_of
from lehr.data.verdict import Drop, Keep
from tests.data.paragraphs import TEXTS

RECIPES = Path(__file__).resolve().parents[2] / "recipes/released"
HANDBOOK = Path("/usr/share/doc/debian-handbook/html")  # of the package debian-handbook, in 25 languages
GRANITE = ("en", "de", "es", "fr", "ja", "pt", "ar", "cs", "it", "ko", "nl", "zh")
SCRIPTS = {"ja": "[\u3041-\u30ff\u4e00-\u9fff]", "zh": "[\u4e00-\u9fff]", "ko": "[\uac00-\ud7a3]", "ar": "[\u0600-\u06ff]"}


def _judged(text: str, *keep: str) -> Keep | Drop:
    return filters({"language": LanguageFilter(keep=list(keep))})(Document("d", "s", text))


def _scrambled(text: str, seed: int) -> str:
    """The letters of a text in random order, its words as long as they were."""
    letters = [c for c in text if c.isalpha()]
    random.Random(seed).shuffle(letters)
    rest = iter(letters)
    return "".join(next(rest) if c.isalpha() else c for c in text)


@pytest.mark.parametrize("language", TEXTS)
def test_a_paragraph_passes_in_its_own_language_alone(language: str) -> None:
    kept = _judged(TEXTS[language], language)
    assert isinstance(kept, Keep) and kept.changed is not None and kept.changed.language == language
    others = _judged(TEXTS[language], *(other for other in TEXTS if other != language))
    assert isinstance(others, Drop) and others.reason == f"language {language}"


@pytest.mark.parametrize("language", TEXTS)
def test_random_letters_are_no_language(language: str) -> None:
    dropped = [_judged(_scrambled(3 * TEXTS[language], seed), *TEXTS) for seed in range(20)]
    assert sum(isinstance(verdict, Drop) for verdict in dropped) >= 19
    letters = sorted({c for c in TEXTS[language] if c.isalpha()})
    rng = random.Random(7)
    texts = ["".join(rng.choice(letters) if c.isalpha() else c for c in 3 * TEXTS[language]) for _ in range(20)]
    assert sum(isinstance(_judged(text, *TEXTS), Drop) for text in texts) >= 19


def test_what_is_short_or_no_text_is_unknown() -> None:
    for text in ("", "Yes.", "1 2 3 4 5 6 7 8 9 " * 20, "… — ☃ ☃ ☃"):
        verdict = _judged(text, "en")
        assert isinstance(verdict, Drop) and verdict.reason == "language unknown"
        assert isinstance(_judged(text, "en", "unknown"), Keep)


def test_english_is_not_taken_for_portuguese() -> None:
    """Of Moby Dick: "um" is a word of Portuguese too, and so is the factbook's "NA"."""
    text = "Um, um, um. Stop that thunder! Plenty too much thunder up here. What's the use of thunder? Um, um, um. We don't "
    text += "want thunder; we want rum; give us a glass of rum. Um, um, um! Birth rate: NA. Death rate: NA. Water source: NA."
    assert isinstance(_judged(text, "en"), Keep)


@pytest.mark.parametrize("name", ["stablelm2-1.6b", "granite3-8b"])
def test_the_recipes_keep_the_languages_that_they_name(name: str) -> None:
    config = load_recipe(RECIPES / f"{name}.yaml").data.filters["language"]  # type: ignore[union-attr]
    assert isinstance(config, LanguageFilter) and set(config.keep) <= set(TEXTS)
    assert len(config.keep) == (12 if name.startswith("granite") else 7)
    judge = filters({"language": config})
    assert {language for language in TEXTS if isinstance(judge(Document("d", "s", TEXTS[language])), Keep)} == set(config.keep)


def test_the_model_says_what_py3langid_says() -> None:
    """To the last bit of its features: at every length, over the edges of the pieces that are walked side by side."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    peer = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    texts = [text[start : start + length] for text in TEXTS.values() for start, length in ((0, 23), (1, 24), (2, 25), (0, 200))]
    for text in texts:
        language, confidence = peer.classify(text)
        assert identify(text)[0] == {"zxx": "unknown"}.get(language, DIALECTS.get(language, language))
        assert language in DIALECTS.values() or identify(text)[1] == pytest.approx(confidence, abs=1e-3)


def _paragraphs(folder: str) -> list[str]:
    """The handbook's paragraphs of a hundred characters and more (in scripts of syllables and words, of forty)."""
    found = []
    for file in sorted((HANDBOOK / folder).glob("*.html")):
        for raw in re.findall(r'<div class="para">(.*?)</div>', file.read_text(encoding="utf-8"), re.DOTALL):
            found.append(" ".join(html.unescape(re.sub(r"<[^>]+>", "", raw)).split()))
    return [p for p in found if len(p) >= (40 if folder[:2] in ("ja", "ko", "zh") else 100)]


@pytest.mark.long
@pytest.mark.skipif(not HANDBOOK.is_dir(), reason="the package debian-handbook is not installed")
def test_nineteen_of_twenty_paragraphs_of_a_book_pass() -> None:
    """And letters of the same paragraphs in random order do not. Not translated paragraphs are left out: those with more
    common words of English than of their language, or most of the letters are of another script."""
    folders = {"en": "en-US", "pt": "pt-BR", "ar": "ar-MA", "cs": "cs-CZ", "ja": "ja-JP", "ko": "ko-KR", "zh": "zh-CN"}
    passed, dropped = Counter[str](), Counter[str]()
    for language in GRANITE:
        found = _paragraphs(folders.get(language, f"{language}-{language.upper()}"))
        if language != "en":
            found = [p for p in found if text_of(p).common("en") < text_of(p).common(language)]  # type: ignore[operator]
        if script := SCRIPTS.get(language):
            found = [p for p in found if 2 * len(re.findall(script, p)) > sum(map(str.isalpha, p))]
        found = random.Random(1).sample(found, min(300, len(found)))
        passed[language] = round(100 * sum(isinstance(_judged(p, language), Keep) for p in found) / len(found))
        mixed = [_scrambled(p, number) for number, p in enumerate(found)]
        dropped[language] = round(100 * sum(isinstance(_judged(p, *GRANITE), Drop) for p in mixed) / len(mixed))
    assert min(passed.values()) >= 95 and min(dropped.values()) >= 95, (passed, dropped)
